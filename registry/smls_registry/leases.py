# SPDX-License-Identifier: MIT
"""The lease table: which nodes live, until when, and what changed.

Its laws:

- A node lives from its announcement until ``ttl_seconds`` after the last one, or until it is
  withdrawn, whichever comes first.
- An id and an address each belong to one live node at most. An announcement under a known
  address with another id replaces the older record at once: a node's id is random at each start,
  so the process behind the address is a new one. A late announcement of the replaced id counts as
  any other: it replaces in turn, and the node that really is there takes its address back with
  its next renewal.
- The revision grows by one with each change that a listing could show. A renewal with an equal
  record is none.

Time is handed in as seconds of a monotonic clock; nothing here reads one.
"""

from __future__ import annotations

from collections import OrderedDict

from attrs import frozen

from smls.errors import Overloaded
from smls.wire import Listing, NodeRecord
from smls_registry.turns import Turns

TTL_SECONDS = 10.0
"""Nodes renew each third of it, so that two renewals may be lost."""

MAX_NODES = 10_000
"""At 64 kB a record, the most that the registry keeps is some hundreds of megabytes."""


@frozen
class Lease:
    """A live node, since when it is known and until when it lives (seconds, monotonic)."""

    node: NodeRecord
    announced_at: float
    expires_at: float


@frozen
class Announcement:
    """What an announcement did: ``old`` is the id's former record, ``replaced`` the address's."""

    lease: Lease
    old: NodeRecord | None
    replaced: NodeRecord | None

    @property
    def is_new(self) -> bool:
        return self.old is None


class LeaseTable:
    """The live nodes as of the last ``expire``, which is to be called before the table is asked.

    Not safe for threads. ``now`` may stand still between two calls but never goes back.
    """

    def __init__(self, ttl_seconds: float = TTL_SECONDS, max_nodes: int = MAX_NODES) -> None:
        self.ttl_seconds = ttl_seconds
        self.revision = 0
        self._max_nodes = max_nodes
        # All leases run equally long, so the order of renewal is the order of expiry.
        self._leases: OrderedDict[str, Lease] = OrderedDict()
        self._ids: dict[str, str] = {}
        self._turns = Turns()

    def announce(self, node: NodeRecord, now: float) -> Announcement:
        """Announces ``node`` or renews its lease.

        :raises Overloaded: where the table is full and the node would take a place more.
        """
        held_by = self._ids.get(node.address, node.id)
        if node.id not in self._leases and held_by == node.id:
            self._refuse_if_full()
        replaced = self.withdraw(held_by) if held_by != node.id else None
        former = self._leases.pop(node.id, None)
        lease = Lease(
            node,
            announced_at=now if former is None else former.announced_at,
            expires_at=now + self.ttl_seconds,
        )
        self._leases[node.id] = lease
        self._put(None if former is None else former.node, node, replaced is not None)
        return Announcement(lease, None if former is None else former.node, replaced)

    def withdraw(self, node_id: str) -> NodeRecord | None:
        """Ends the lease of ``node_id`` and returns its record, if there is one."""
        lease = self._leases.pop(node_id, None)
        if lease is None:
            return None
        del self._ids[lease.node.address]
        self._turns.leave(lease.node)
        self.revision += 1
        return lease.node

    def expire(self, now: float) -> list[NodeRecord]:
        """Ends the leases that ran out at or before ``now`` and returns their records."""
        expired = []
        while self._leases:
            lease = next(iter(self._leases.values()))
            if lease.expires_at > now:
                break
            expired.append(lease.node)
            self.withdraw(lease.node.id)
        return expired

    def lease(self, node_id: str) -> Lease | None:
        """The lease of ``node_id``, if it lives."""
        return self._leases.get(node_id)

    def leases(self) -> list[Lease]:
        """All leases, by address."""
        return sorted(self._leases.values(), key=lambda lease: lease.node.address)

    def listing(self, model: str | None = None) -> Listing:
        """The live nodes that serve ``model``, all for ``None``, by address."""
        nodes = (lease.node for lease in self.leases())
        return Listing(self.revision, tuple(node for node in nodes if node.serves(model)))

    def next(self, model: str | None = None) -> NodeRecord | None:
        """The node whose turn it is among those that serve ``model``, any for ``None``."""
        return self._turns.next(model)

    def _put(self, old: NodeRecord | None, new: NodeRecord, replacing: bool) -> None:
        if old is None:
            self._turns.join(new)
        elif old != new:
            del self._ids[old.address]
            self._turns.change(old, new)
        self._ids[new.address] = new.id
        # To replace a record is one change, and taking out the old one has counted already.
        if old != new and not replacing:
            self.revision += 1

    def _refuse_if_full(self) -> None:
        if len(self._leases) >= self._max_nodes:
            raise Overloaded(
                f"the registry holds {self._max_nodes} nodes and takes no more",
                retry_after_seconds=self.ttl_seconds,
            )
