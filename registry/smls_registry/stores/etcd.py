# SPDX-License-Identifier: MIT
"""The store of several registries: etcd keeps the leases and tells all of them what changes.

Below a prefix, ``/nodes/ID`` holds a record under the lease of that id, which every registry can
name and renew, so that the death of one ends nothing. The laws:

- What is listed is what etcd's watch told: its revisions are the list's. Each change that a
  registry wants, suspicion too, is written to etcd and comes back to all as an event.
- A record that is taken out on purpose leaves ``/gone/ID`` in the same revision, for as long as
  its lease would have run. A record that goes without is one whose lease ran out: ``suspects``
  judges it. A node that announced itself here within the TTL lives, whatever etcd thinks; others
  are put back as suspects, under a lease of their own, where nobody else has put them back.
- While etcd is away the list stays as it was, and what would have to be written is refused.
- A watch that hears nothing is dead. So ``/heartbeat`` is written where all is quiet, and now and
  then the list is compared with etcd's as a whole.
- After each interruption everything is read anew. What happened between is one change, which
  nobody can resume within: it may have been several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from smls.errors import SmlsError, Unavailable
from smls.wire import NodeRecord, NodeState
from smls_registry.roster import Roster
from smls_registry.stores.gateway import (
    LEASE_EXISTS,
    LEASE_GONE,
    RETRY_AFTER_SECONDS,
    SILENCE_SECONDS,
    Gateway,
    Refused,
    WatchEnded,
    number,
)
from smls_registry.stores.keys import Found, Keys, Step
from smls_registry.suspects import SUSPECT_TTLS, Silences

HEARTBEAT_SECONDS = 5.0
"""Three of these may be lost before a watch is taken for dead."""

COMPARE_SECONDS = 60.0
"""Old versions of etcd lose events now and then."""

SEEN_SECONDS = 2.0
"""What was written is seen within milliseconds, or the watch is broken."""

MOST_RETRY_SECONDS = 5.0


class EtcdStore:
    """Keeps the nodes below ``prefix`` of an etcd; ``seconds`` reads a monotonic clock.

    ``ttl_seconds`` is rounded up to what etcd can do: whole seconds, 2 at least.
    """

    log = Logger()

    settling = False

    def __init__(
        self,
        reactor: Any,
        gateway: Gateway,
        prefix: str,
        ttl_seconds: float,
        seconds: Callable[[], float],
    ) -> None:
        self.ttl_seconds = float(max(2, -int(-ttl_seconds // 1)))
        self.roster = Roster("unknown")
        self.known = False
        self.seconds = seconds
        self._reactor = reactor
        self._gateway = gateway
        self._keys = Keys(prefix)
        self._silences = Silences(self.roster, self.ttl_seconds)
        self._away = "it was not asked yet"
        self._created: dict[str, int] = {}
        self._known_since: dict[str, float] = {}
        # What announced itself here, and when it did last.
        self._announced: dict[str, tuple[NodeRecord, float]] = {}
        self._renewing: set[str] = set()
        self._seeing: list[tuple[int, Deferred[None]]] = []
        self._news_at = seconds()
        self._stopped = False
        self._background: set[Deferred[Any]] = set()
        self._following: Deferred[None] | None = None
        self._watching: Deferred[None] | None = None
        self._quiet = self._each(HEARTBEAT_SECONDS, self._beat)
        self._compare = self._each(COMPARE_SECONDS, self._compare_all)

    def start(self) -> None:
        self._following = Deferred.fromCoroutine(self._follow())
        self._following.addErrback(self._ended)
        self._quiet.start(HEARTBEAT_SECONDS, now=False)
        self._compare.start(COMPARE_SECONDS, now=False)

    async def stop(self) -> None:
        for each in (self._quiet, self._compare):
            if each.running:
                each.stop()
        self._stopped = True
        if self._following is not None:
            self._following.cancel()
        # A connection that comes back from its call after the close would stay open.
        for work in list(self._background):
            work.cancel()
        await self._gateway.close()

    def sweep(self) -> None:
        """Nothing runs out here: etcd sees to it."""

    def known_since(self, node_id: str) -> float:
        return self._known_since[node_id]

    async def expires_at(self, node_id: str) -> float:
        asked = {"ID": str(self._keys.lease(node_id, self._state(node_id)))}
        left = await self._gateway.call("/v3/lease/timetolive", asked)
        return self.seconds() + max(0, number(left, "TTL"))

    async def announce(self, node: NodeRecord) -> bool:
        is_new = self.roster.get(node.id) is None
        self._announced[node.id] = (node, self.seconds())
        if self._away:
            raise Unavailable(
                f"etcd does not answer: {self._away}", retry_after_seconds=RETRY_AFTER_SECONDS
            )
        await self._put(node)
        return is_new

    def renew(self, node_id: str) -> bool:
        known = self._announced.get(node_id)
        if known is None or self._away or self.roster.get(node_id) != known[0]:
            return False
        self._announced[node_id] = (known[0], self.seconds())
        if node_id not in self._renewing:
            self._renewing.add(node_id)
            self._in_background(self._keep_alive(known[0]))
        return True

    async def withdraw(self, node_id: str, why: str = "withdrawn") -> NodeRecord | None:
        node, created = self.roster.get(node_id), self._created.get(node_id)
        self._announced.pop(node_id, None)
        if node is None or created is None:
            return None
        try:
            done = await self._write(self._keys.take_out(node, created, why))
        except Refused as refused:
            if refused.status != LEASE_GONE:
                raise _unavailable(refused) from refused
            return None
        return node if done else None

    async def _put(self, node: NodeRecord) -> None:
        """Writes the record under its lease, and waits until it is listed.

        :raises Unavailable: where etcd does not take it.
        """
        held = self.roster.at(node.address)
        replaced = None if held is None or held.id == node.id else held
        try:
            for attempt in (1, 2):
                await self._grant(node, self.ttl_seconds)
                try:
                    await self._write(self._keys.put_in(node, replaced))
                    return
                except Refused as refused:
                    if refused.status != LEASE_GONE or attempt == 2:
                        raise
        except Refused as refused:
            raise _unavailable(refused) from refused

    async def _put_back(self, node: NodeRecord) -> None:
        """Writes ``node`` as a suspect, where it is gone and nobody has put it back."""
        suspect = evolve(node, state=NodeState.SUSPECT)
        await self._grant(suspect, SUSPECT_TTLS * self.ttl_seconds)
        await self._write(self._keys.put_back(suspect))

    async def _grant(self, node: NodeRecord, ttl_seconds: float) -> None:
        lease = str(self._keys.lease(node.id, node.state))
        try:
            asked = {"TTL": str(int(ttl_seconds)), "ID": lease}
            granted = await self._gateway.call("/v3/lease/grant", asked)
        except Refused as refused:
            if refused.status != LEASE_EXISTS:
                raise
            await self._gateway.call("/v3/lease/keepalive", {"ID": lease})
        else:
            if node.state is NodeState.LIVE:
                self.ttl_seconds = float(number(granted, "TTL"))

    async def _keep_alive(self, node: NodeRecord) -> None:
        try:
            asked = {"ID": str(self._keys.lease(node.id, node.state))}
            answer = await self._gateway.call("/v3/lease/keepalive", asked)
            if not number(answer.get("result", {}), "TTL") and node.id in self._announced:
                await self._put(node)
        finally:
            self._renewing.discard(node.id)

    async def _write(self, transaction: dict[str, Any]) -> bool:
        """Whether what it compares held; it is listed by then."""
        answer = await self._gateway.call("/v3/kv/txn", transaction)
        if not answer.get("succeeded", False):
            return False
        await self._seen(number(answer["header"], "revision"))
        return True

    async def _seen(self, revision: int) -> None:
        if revision <= self.roster.revision:
            return
        seen: Deferred[None] = Deferred()
        self._seeing.append((revision, seen))
        seen.addTimeout(SEEN_SECONDS, self._reactor, lambda _, __: None)
        await seen

    async def _follow(self) -> None:
        failures = 0
        while True:
            started = self.seconds()
            try:
                revision = await self._load()
                if self._away:
                    self.log.info("follows etcd from revision {revision}", revision=revision)
                self._away = ""
                self._watching = Deferred.fromCoroutine(self._watch(revision + 1))
                await self._watching
            except CancelledError:
                pass
            except SmlsError as error:
                if not self._away:
                    self.log.warn("{reason}; it is tried again", reason=error.message)
                # The end of a watch keeps nobody from writing.
                if not isinstance(error, WatchEnded):
                    self._away = error.message
            except Exception:
                self._away = "what it says cannot be read; see the registry's log"
                self.log.failure("etcd: what it says cannot be read; it is tried again")
            # A call that is cancelled may end in any of these.
            if self._stopped:
                return
            failures = 0 if self.seconds() - started > SILENCE_SECONDS else failures + 1
            pause = 0.0 if failures < 2 else min(MOST_RETRY_SECONDS, 0.05 * 2**failures)
            await deferLater(self._reactor, pause)

    async def _load(self) -> int:
        found = await self._range()
        base = self._keys.history(found.cluster)
        history = self.roster.history if self.roster.history.startswith(base) else base
        if history == self.roster.history and found.revision < self.roster.revision:
            # It was restored from a backup: the same revisions mean something else now.
            history = f"{base}-{found.revision}"
        if history != self.roster.history:
            self.roster.restart(history, found.revision - 1)
        elif found.revision == self.roster.revision and found.nodes != self._listed():
            # An event was lost. To tell of it takes a revision that nobody has seen.
            await self._gateway.call("/v3/kv/put", self._keys.beat())
            found = await self._range()
        if found.revision > self.roster.revision:
            found.removed = [node_id for node_id in self._listed() if node_id not in found.nodes]
            self._apply(found)
            self.roster.restart(history, found.revision)
        self.known = True
        self._tell_seen()
        return found.revision

    async def _range(self) -> Found:
        return self._keys.read(await self._gateway.call("/v3/kv/range", self._keys.all()))

    async def _watch(self, revision: int) -> None:
        self._news_at = self.seconds()
        request = {**self._keys.all(), "start_revision": str(revision)}
        await self._gateway.watch(request, self._heard)

    def _heard(self, result: dict[str, Any]) -> None:
        self._news_at = self.seconds()
        if result.get("canceled"):
            compacted = number(result, "compact_revision")
            reason = result.get("cancel_reason") or f"compacted at revision {compacted}"
            raise WatchEnded(f"etcd cancelled the watch: {reason}")
        for step in self._keys.steps(result.get("events", ())):
            self._apply(step)
        self._tell_seen()

    def _apply(self, step: Step) -> None:
        now = self.seconds()
        taken = {node.address for node in step.nodes.values()}
        removed = [node for node in map(self.roster.get, step.removed) if node is not None]
        silent = [
            node for node in removed if node.id not in step.gone and node.address not in taken
        ]
        staying = {node.id for node in silent} - set(self._judge(silent))
        gone = [node.id for node in removed if node.id not in staying]
        why = next(iter(step.gone.values()), "expired")
        self._created |= step.created
        for node_id in step.nodes:
            self._known_since.setdefault(node_id, now)
        change = self.roster.change(step.nodes.values(), gone, why, step.revision)
        self.roster.advance(step.revision)
        for node in () if change is None else change.was:
            if self.roster.get(node.id) is None:
                self._created.pop(node.id, None)
                self._known_since.pop(node.id, None)
                self._announced.pop(node.id, None)

    def _judge(self, silent: Iterable[NodeRecord]) -> list[str]:
        """Which of the nodes whose leases ran out are gone; the others are put back."""
        now = self.seconds()
        heard: list[NodeRecord] = []
        unheard: list[NodeRecord] = []
        for node in silent:
            known = self._announced.get(node.id)
            is_heard = known is not None and known[1] > now - self.ttl_seconds
            (heard if is_heard else unheard).append(node)
        released = [node.id for node in unheard if node.state is NodeState.SUSPECT]
        live = [node for node in unheard if node.state is NodeState.LIVE]
        dropped, suspects = self._silences.judge(live, now)
        for node in heard:
            self._in_background(self._put(self._announced[node.id][0]))
        for node in suspects:
            self._in_background(self._put_back(node))
        return [*released, *(node.id for node in dropped)]

    def _tell_seen(self) -> None:
        seen = [each for each in self._seeing if each[0] <= self.roster.revision]
        self._seeing = [each for each in self._seeing if each[0] > self.roster.revision]
        for _, waiting in seen:
            if not waiting.called:
                waiting.callback(None)

    async def _beat(self) -> None:
        if not self._away and self.seconds() - self._news_at > HEARTBEAT_SECONDS / 2:
            await self._gateway.call("/v3/kv/put", self._keys.beat())

    async def _compare_all(self) -> None:
        if self._away:
            return
        found = await self._range()
        await self._seen(found.revision)
        is_comparable = self.roster.changed_at <= found.revision
        if self.roster.revision < found.revision or (
            is_comparable and found.nodes != self._listed()
        ):
            self.log.warn("etcd's watch has lost events: everything is read anew")
            if self._watching is not None:
                self._watching.cancel()

    def _listed(self) -> dict[str, NodeRecord]:
        return {node.id: node for node in self.roster.listing().nodes}

    def _state(self, node_id: str) -> NodeState:
        node = self.roster.get(node_id)
        return NodeState.LIVE if node is None else node.state

    def _each(self, seconds: float, work: Callable[[], Any]) -> LoopingCall:
        each = LoopingCall(lambda: self._in_background(work()))
        each.clock = self._reactor
        return each

    def _ended(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self.log.failure("following etcd broke", failure)

    def _in_background(self, work: Any) -> None:
        def failed(failure: Failure) -> None:
            if failure.check(SmlsError):
                self.log.info("etcd: {reason}", reason=failure.getErrorMessage())
            elif not (self._stopped and failure.check(CancelledError)):
                self.log.failure("etcd: work in the background broke", failure)

        doing = Deferred.fromCoroutine(work)
        self._background.add(doing)
        doing.addErrback(failed).addBoth(lambda _: self._background.discard(doing))


def _unavailable(refused: Refused) -> Unavailable:
    return Unavailable(f"etcd refuses: {refused.message}", retry_after_seconds=RETRY_AFTER_SECONDS)
