# SPDX-License-Identifier: MIT
"""The lists of several registries as one. Pure.

Nodes announce themselves to every registry, and registries need not know of each other. The laws:

- A registry is live from its list until its stream is lost. A node that any live registry lists
  is listed, and is suspect where no live registry has it as live.
- A list that is lost, that came from disk, or that a registry's restart has replaced, is a former
  one. Its nodes stay listed while no registry is live, and for ``FORMER_SECONDS`` after that, so
  that they have the time to announce themselves again.
- A node that a live registry says is gone leaves the former lists too.
- Each address is listed once. Revisions of one history are compared, those of two never.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from attrs import evolve, frozen

from smls.errors import BadRecord
from smls.wire import Delta, Listing, NodeRecord, NodeState

FORMER_SECONDS = 10.0
"""The usual TTL: a node that has not come back by then would have been dropped, too."""


@frozen
class Told:
    """What a registry told last: its nodes by id, at a revision of its history."""

    history: str
    revision: int
    nodes: Mapping[str, NodeRecord]

    @classmethod
    def of(cls, history: str, listing: Listing) -> Told:
        return cls(history, listing.revision, {node.id: node for node in listing.nodes})

    @property
    def event_id(self) -> str:
        """By what a watch resumes."""
        return f"{self.history}:{self.revision}"

    def after(self, delta: Delta) -> Told:
        """What holds after ``delta``."""
        nodes = {**self.nodes, **{node.id: node for node in delta.put}}
        for node_id in delta.gone:
            nodes.pop(node_id, None)
        return Told(self.history, delta.revision, nodes)


@frozen
class _Former:
    node: NodeRecord
    until: float
    """Seconds; for ever while no registry is live."""


Wanted = tuple[str | None, str | None, str | None]


class Merged:
    """One list from what ``registries`` tell; ``remembered`` is what they told in a former life."""

    def __init__(
        self, registries: Iterable[str], remembered: Mapping[str, Told] | None = None
    ) -> None:
        self._registries = tuple(registries)
        self.told = {
            registry: told
            for registry, told in (remembered or {}).items()
            if registry in self._registries
        }
        self.live: set[str] = set()
        self._former = {
            node.id: _Former(node, math.inf)
            for told in self.told.values()
            for node in told.nodes.values()
        }
        self._merged: tuple[NodeRecord, ...] | None = None
        self._expires_at = math.inf
        self._given: dict[Wanted, tuple[NodeRecord, ...]] = {}
        self._current: set[Wanted] = set()

    def snapshot(self, registry: str, told: Told, now: float) -> None:
        """``registry`` has told its whole list."""
        old, was_live = self.told.get(registry), registry in self.live
        if old is not None and old.history == told.history:
            self._forget(old.nodes.keys() - told.nodes.keys())
        elif old is not None and was_live:
            self._keep(old.nodes.values(), now + FORMER_SECONDS)
        self.told[registry] = told
        self._is_live(registry, now)

    def resumed(self, registry: str, now: float) -> None:
        """``registry`` goes on from what it told last."""
        self._is_live(registry, now)

    def delta(self, registry: str, history: str, delta: Delta, now: float) -> None:
        """``registry`` has told a change.

        :raises BadRecord: where it is one of another history than the list.
        """
        old = self.told.get(registry)
        if old is None or old.history != history:
            raise BadRecord(
                f"delta: got one of the history {history!r}, wanted "
                f"{'a snapshot first' if old is None else repr(old.history)}"
            )
        # What was told already may be told again after a watch was resumed.
        if delta.revision > old.revision:
            self.told[registry] = old.after(delta)
            self._forget(delta.gone)
        self._is_live(registry, now)

    def lost(self, registry: str, now: float) -> None:
        """The stream of ``registry`` is lost."""
        if registry not in self.live:
            return
        self._drop_expired(now)
        self.live.remove(registry)
        self._keep(self.told[registry].nodes.values(), now + FORMER_SECONDS)
        if not self.live:
            self._former = {
                node_id: evolve(former, until=math.inf) for node_id, former in self._former.items()
            }
        self._changed()

    def nodes(
        self,
        model: str | None = None,
        version: str | None = None,
        label: str | None = None,
        *,
        now: float,
    ) -> tuple[NodeRecord, ...]:
        """The nodes that serve what is wanted, by address.

        The tuple is the same object as before while it would be an equal one.
        """
        if now >= self._expires_at:
            self._changed()
        wanted = (model, version, label)
        if wanted not in self._current:
            found = tuple(node for node in self._all(now) if node.serves(*wanted))
            if found != self._given.get(wanted, ()):
                self._given[wanted] = found
            if not found:
                # What nobody serves may be anything, and so must not be kept.
                self._given.pop(wanted, None)
                return ()
            self._current.add(wanted)
        return self._given[wanted]

    def _is_live(self, registry: str, now: float) -> None:
        if not self.live:
            until = now + FORMER_SECONDS
            self._former = {
                node_id: evolve(former, until=until) for node_id, former in self._former.items()
            }
        self.live.add(registry)
        self._changed()

    def _keep(self, nodes: Iterable[NodeRecord], until: float) -> None:
        self._former.update((node.id, _Former(node, until)) for node in nodes)

    def _forget(self, ids: Iterable[str]) -> None:
        for node_id in ids:
            self._former.pop(node_id, None)

    def _changed(self) -> None:
        self._merged = None
        self._current.clear()

    def _drop_expired(self, now: float) -> None:
        self._former = {
            node_id: former for node_id, former in self._former.items() if former.until > now
        }
        self._expires_at = min((each.until for each in self._former.values()), default=math.inf)

    def _all(self, now: float) -> tuple[NodeRecord, ...]:
        if self._merged is None:
            self._drop_expired(now)
            found: dict[str, NodeRecord] = {}
            for registry in self._registries:
                if registry in self.live:
                    for node in self.told[registry].nodes.values():
                        known = found.get(node.id)
                        if known is None or known.state is not NodeState.LIVE:
                            found[node.id] = node
            by_address = {node.address: node for node in reversed(found.values())}
            for node_id, former in self._former.items():
                if node_id not in found:
                    by_address.setdefault(former.node.address, former.node)
            self._merged = tuple(sorted(by_address.values(), key=lambda node: node.address))
        return self._merged
