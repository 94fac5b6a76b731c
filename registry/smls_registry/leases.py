# SPDX-License-Identifier: MIT
"""The lease table: which nodes live, until when, and which have fallen silent.

Its laws:

- A node lives from its announcement until ``ttl_seconds`` after the last one, or until it is
  withdrawn, whichever comes first.
- A node whose lease runs out is dropped or becomes a suspect, as ``suspects`` tells. A suspect is
  listed for ``SUSPECT_TTLS`` more, and lives again as soon as it announces itself.
- An id and an address each belong to one node at most. An announcement under a known address with
  another id replaces the older record at once: a node's id is random at each start, so the process
  behind the address is a new one. A late announcement of the replaced id counts as any other: it
  replaces in turn, and the node that really is there takes its address back with its next renewal.
- The revision grows by one with each change that a listing could show. A renewal with an equal
  record is none; what runs out together is one.

Time is handed in as seconds of a monotonic clock; nothing here reads one.
"""

from __future__ import annotations

from collections import OrderedDict

from attrs import evolve, frozen

from smls.errors import Overloaded
from smls.wire import NodeRecord, NodeState
from smls_registry.roster import Roster
from smls_registry.suspects import SUSPECT_TTLS, Silences

TTL_SECONDS = 10.0
"""Nodes renew each third of it, so that two renewals may be lost."""

MAX_NODES = 10_000
"""At 64 kB a record, the most that the registry keeps is some hundreds of megabytes."""


@frozen
class Lease:
    """A node, since when it is known and until when it is listed (seconds, monotonic)."""

    node: NodeRecord
    announced_at: float
    expires_at: float


class LeaseTable:
    """The nodes of ``roster`` as of the last ``expire``, to be called before the roster is asked.

    Not safe for threads. ``now`` may stand still between two calls but never goes back.
    """

    def __init__(
        self, roster: Roster, ttl_seconds: float = TTL_SECONDS, max_nodes: int = MAX_NODES
    ) -> None:
        self.roster = roster
        self.ttl_seconds = ttl_seconds
        self._max_nodes = max_nodes
        # All leases run equally long, so the order of renewal is the order of expiry.
        self._leases: OrderedDict[str, Lease] = OrderedDict()
        self._suspects: OrderedDict[str, Lease] = OrderedDict()
        self._silences = Silences(roster, ttl_seconds)

    def announce(self, node: NodeRecord, now: float) -> bool:
        """Announces ``node`` or renews its lease; whether its id was unknown.

        :raises Overloaded: where the table is full and the node would take a place more.
        """
        former = self.lease(node.id)
        held = self.roster.at(node.address)
        if former is None and held is None and len(self.roster) >= self._max_nodes:
            raise Overloaded(
                f"the registry holds {self._max_nodes} nodes and takes no more",
                retry_after_seconds=self.ttl_seconds,
            )
        if held is not None and held.id != node.id:
            self._forget(held.id)
        self._forget(node.id)
        since = now if former is None else former.announced_at
        self._leases[node.id] = Lease(node, since, now + self.ttl_seconds)
        self.roster.change(_what(former), put=(node,))
        return former is None

    def renew(self, node_id: str, now: float) -> bool:
        """Renews the lease of ``node_id`` as it is; whether it is a live node's."""
        lease = self._leases.pop(node_id, None)
        if lease is None:
            return False
        self._leases[node_id] = Lease(lease.node, lease.announced_at, now + self.ttl_seconds)
        return True

    def withdraw(self, node_id: str, what: str = "withdrawn") -> NodeRecord | None:
        """Ends the lease of ``node_id`` and returns its record, if there is one."""
        self._forget(node_id)
        change = self.roster.change(what, gone=(node_id,))
        return None if change is None else change.was[0]

    def expire(self, now: float) -> None:
        """Drops or suspects those whose leases ran out at or before ``now``, and releases."""
        silent = {lease.node.id: lease for lease in _run_out(self._leases, now)}
        dropped, suspects = self._silences.judge((one.node for one in silent.values()), now)
        self.roster.change("expired", gone=[node.id for node in dropped])
        marked = [evolve(node, state=NodeState.SUSPECT) for node in suspects]
        released_at = now + SUSPECT_TTLS * self.ttl_seconds
        for node in marked:
            self._suspects[node.id] = Lease(node, silent[node.id].announced_at, released_at)
        self.roster.change("suspected", put=marked)
        released = [lease.node.id for lease in _run_out(self._suspects, now)]
        self.roster.change("released", gone=released)

    def lease(self, node_id: str) -> Lease | None:
        """The lease of ``node_id``, a suspect's too, if there is one."""
        return self._leases.get(node_id) or self._suspects.get(node_id)

    def leases(self) -> list[Lease]:
        """All leases, by address."""
        both = [*self._leases.values(), *self._suspects.values()]
        return sorted(both, key=lambda lease: lease.node.address)

    def _forget(self, node_id: str) -> None:
        self._leases.pop(node_id, None)
        self._suspects.pop(node_id, None)


def _what(former: Lease | None) -> str:
    if former is None:
        return "announced"
    return "changed" if former.node.state is NodeState.LIVE else "recovered"


def _run_out(leases: OrderedDict[str, Lease], now: float) -> list[Lease]:
    ended = []
    while leases and next(iter(leases.values())).expires_at <= now:
        ended.append(leases.popitem(last=False)[1])
    return ended
