# SPDX-License-Identifier: MIT
"""Keeps one node announced at each of its registries.

The laws of a lease:

- It is renewed each third of the TTL that the registry named, or as often as that one asks for.
- The node holds a stream open at the registry. Where a process dies, its connections close, and
  the registry ends the lease at once; the TTL is for machines that vanish without a word.
- When the stream ends or falls silent, the node announces itself again at once: a registry that
  was restarted knows it as soon as it listens.
- While a registry is away it is tried again and again, up to ``MOST_RETRY_SECONDS`` apart. Its
  first failure and its return are logged, the attempts between are not.
- A node that stops says so first, and lets the stream go after that.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from random import Random
from typing import Any
from urllib.parse import urlsplit

import treq
from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from smls.address import Advertise, Reached, reach
from smls.errors import SmlsError
from smls.hold import Hold
from smls.stream import Retries
from smls.wire import NodeRecord, node_to_json

ATTEMPT_SECONDS = 5.0
"""An announcement that takes longer is given up: it is half the usual TTL."""

WITHDRAW_SECONDS = 2.0
"""A node that stops waits no longer for each registry; its lease runs out anyway."""

REFUSED_SECONDS = 30.0
"""A record that the registry refuses is rarely taken later: it is not asked often."""

LEAST_RENEWAL_SECONDS = 0.1
"""However short the TTL, a node renews no faster."""


def renewal_delay(ttl_seconds: float, random: Random) -> float:
    """Seconds until a lease is renewed: a third of its TTL, ±10 % so that nodes spread out."""
    return max(LEAST_RENEWAL_SECONDS, ttl_seconds / 3 * random.uniform(0.9, 1.1))


class Announcer:
    """Keeps the node announced at each registry from ``start`` to ``withdraw``.

    ``record`` makes the node's record for the address (``host:port``) that is advertised at a
    registry; it may say something else each time, but the node's id stays. ``http`` is a
    ``treq.client.HTTPClient``. All methods are called on the reactor's thread.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        http: Any,
        urls: Iterable[str],
        record: Callable[[str], NodeRecord],
        advertise: Advertise,
        random: Random,
        *,
        reach: Callable[[str, int], Deferred[Reached]] | None = None,
    ) -> None:
        self._reactor = reactor
        self._http = http
        self._record = record
        self._advertise = advertise
        self._random = random
        self._reach = reach or _Resolver(reactor).reach
        self._started = False
        self._leases: dict[str, _Lease] = {}
        self._configured = frozenset(map(_base, urls))
        for url in sorted(self._configured):
            self.add(url)

    def start(self) -> None:
        """Announces the node at each registry, and goes on doing so."""
        self._started = True
        for lease in self._leases.values():
            lease.start()

    def update(self) -> None:
        """Announces at once, for the record has changed."""
        for lease in self._leases.values():
            lease.wake()

    def add(self, url: str) -> None:
        """Announces the node at the registry ``url`` too, such as one that was found."""
        base = _base(url)
        if base in self._leases:
            return
        self._leases[base] = lease = _Lease(self, base)
        if self._started:
            lease.start()

    def remove(self, url: str) -> None:
        """Forgets the registry ``url``, such as one that is lost, unless it was there at first."""
        base = _base(url)
        if base in self._leases and base not in self._configured:
            self._leases.pop(base).stop()

    def withdraw(self) -> Deferred[None]:
        """Stops, and fires when each registry that holds a lease has been told, or was too slow.

        It never fails.
        """
        self._started = False
        leases, self._leases = self._leases, {}
        told = gatherResults([lease.withdraw() for lease in leases.values()], consumeErrors=True)
        return told.addCallback(lambda _: None)

    @property
    def announced(self) -> list[str]:
        """The URLs of the registries that know the node just now, as far as it knows."""
        return [url for url, lease in self._leases.items() if lease.announced]


class _Refused(SmlsError):
    """The registry understood and said no."""


class _Lease:
    """The node's lease at one registry."""

    def __init__(self, owner: Announcer, url: str) -> None:
        self.announced = False
        self._owner = owner
        self._url = url
        self._clock: IReactorTime = owner._reactor
        self._may_be_known: str | None = None
        self._announcing = Retries(owner._random)
        self._hold = Hold(owner._http, owner._reactor, owner._random, url, self.wake)
        self._refusal = ""
        self._soonest = math.inf
        self._stopped = False
        self._loop: Deferred[None] | None = None
        self._nap: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        if self._loop is None:
            self._loop = Deferred.fromCoroutine(self._keep())
            self._loop.addErrback(self._ended)

    def wake(self, seconds: float = 0.0) -> None:
        """Announces the node within ``seconds``, or so long after what is on its way just now."""
        self._soonest = min(self._soonest, seconds)
        if self._nap is None or self._timer is None:
            return
        if seconds:
            left = self._timer.getTime() - self._clock.seconds()
            self._timer.reset(min(left, seconds))
        else:
            nap, self._nap = self._nap, None
            nap.callback(None)

    def stop(self) -> None:
        self._stop_announcing()
        self._hold.let_go()

    def withdraw(self) -> Deferred[None]:
        self._stop_announcing()
        if self._may_be_known is None:
            self._hold.let_go()
            return succeed(None)
        told: Deferred[Any] = Deferred.fromCoroutine(self._delete(self._may_be_known))
        told.addTimeout(WITHDRAW_SECONDS, self._clock)
        told.addErrback(
            lambda failure: self._owner.log.warn(
                "registry {endpoint} was not told that the node stops: {reason}",
                endpoint=self._url,
                reason=failure.getErrorMessage(),
            )
        )
        return told.addCallback(lambda _: self._hold.let_go())

    def _stop_announcing(self) -> None:
        self.announced = False
        self._stopped = True
        if self._loop is not None:
            self._loop.cancel()

    async def _keep(self) -> None:
        while True:
            self._soonest = math.inf
            try:
                attempt: Deferred[float] = Deferred.fromCoroutine(self._announce())
                delay = await attempt.addTimeout(ATTEMPT_SECONDS, self._clock)
            except Exception as error:
                # A cancelled request may end in another error than CancelledError.
                if self._stopped:
                    return
                delay = self._failed(error)
            delay = min(delay, self._soonest)
            if delay:
                await self._sleep(delay)

    async def _announce(self) -> float:
        """Seconds until the lease is to be renewed."""
        address = await self._address()
        node = self._owner._record(address)
        body = json.dumps(node_to_json(node)).encode()
        try:
            status, answer = await self._call("PUT", node.id, body)
        except (ConnectError, DNSLookupError):
            raise
        except Exception:
            # The announcement may have arrived although its answer did not.
            self._may_be_known = node.id
            raise
        if 400 <= status < 500:
            raise _Refused(f"{status} {_message(answer)}")
        renewal = _renewal(answer, self._owner._random) if status in (200, 201) else None
        if renewal is None:
            raise SmlsError(f"{status} {_message(answer)}")
        self._succeeded(node)
        return renewal

    async def _delete(self, node_id: str) -> None:
        await self._call("DELETE", node_id, b"")

    def _node_url(self, node_id: str) -> str:
        return f"{self._url}/v1/nodes/{node_id}"

    async def _call(self, method: str, node_id: str, body: bytes) -> tuple[int, bytes]:
        response = await self._owner._http.request(
            method,
            self._node_url(node_id),
            data=body or None,
            headers={"Content-Type": "application/json"} if body else {},
        )
        return response.code, await treq.content(response)

    async def _address(self) -> str:
        advertise = self._owner._advertise
        fixed = advertise.fixed()
        if fixed is not None:
            return fixed
        parts = urlsplit(self._url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return advertise.address(await self._owner._reach(parts.hostname or "", port))

    def _succeeded(self, node: NodeRecord) -> None:
        if not self.announced:
            self._owner.log.info(
                "announced at registry {endpoint} as {address}, after {attempt} failures",
                endpoint=self._url,
                address=node.address,
                attempt=self._announcing.failures,
            )
        self.announced = True
        self._may_be_known = node.id
        self._announcing.failures = 0
        self._refusal = ""
        self._hold.keep(f"{self._node_url(node.id)}/lease")

    def _failed(self, error: Exception) -> float:
        delay = self._announcing.ended()
        refusal = error.message if isinstance(error, _Refused) else ""
        if refusal:
            delay = REFUSED_SECONDS * self._owner._random.uniform(0.9, 1.1)
        is_news = self._announcing.failures == 1 or refusal not in ("", self._refusal)
        self._refusal = refusal or self._refusal
        if is_news:
            self._owner.log.warn(
                "not announced at registry {endpoint}: {reason}; it is tried again and again",
                endpoint=self._url,
                reason=str(error) or type(error).__name__,
                attempt=self._announcing.failures,
                delay=delay,
            )
        self.announced = False
        return delay

    async def _sleep(self, seconds: float) -> None:
        nap: Deferred[None] = Deferred()
        self._nap = nap
        timer = self._timer = self._clock.callLater(seconds, self.wake)
        try:
            await nap
        finally:
            self._nap = self._timer = None
            if timer.active():
                timer.cancel()

    def _ended(self, failure: Any) -> None:
        if not failure.check(CancelledError):
            self._owner.log.failure("the lease at {endpoint} broke", failure, endpoint=self._url)


@frozen
class _Resolver:
    """Asks the system, in one of the reactor's threads, how a registry is reached."""

    reactor: Any

    def reach(self, host: str, port: int) -> Deferred[Reached]:
        return deferToThreadPool(self.reactor, self.reactor.getThreadPool(), reach, host, port)


def _base(url: str) -> str:
    return url.rstrip("/")


def _renewal(answer: bytes, random: Random) -> float | None:
    """Seconds until the renewal that the registry's answer asks for, if it is one."""
    try:
        fields = json.loads(answer)
        ttl_seconds = _seconds(fields["ttl_seconds"])
        asked_for = _seconds(fields.get("renew_seconds"))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if asked_for is not None:
        return max(LEAST_RENEWAL_SECONDS, asked_for)
    return None if ttl_seconds is None else renewal_delay(ttl_seconds, random)


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 < value < math.inf else None


def _message(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["error"]["message"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return f"and no registry's answer: {answer[:80]!r}"
