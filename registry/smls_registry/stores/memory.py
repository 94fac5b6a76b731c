# SPDX-License-Identifier: MIT
"""The store of a registry that stands alone: everything in its memory."""

from __future__ import annotations

import math
from collections.abc import Callable

from smls.wire import SETTLING_SECONDS, NodeRecord
from smls_registry.leases import Lease, LeaseTable


class MemoryStore:
    """Keeps the nodes in ``table``; ``seconds`` reads a monotonic clock."""

    known = True

    def __init__(self, table: LeaseTable, seconds: Callable[[], float]) -> None:
        self.ttl_seconds = table.ttl_seconds
        self.roster = table.roster
        self._table = table
        self.seconds = seconds
        self._settled_at = -math.inf

    @property
    def settling(self) -> bool:
        return self.seconds() < self._settled_at

    def start(self) -> None:
        self._settled_at = self.seconds() + SETTLING_SECONDS

    async def stop(self) -> None:
        pass

    def sweep(self) -> None:
        self._table.expire(self.seconds())

    def known_since(self, node_id: str) -> float:
        return self._lease(node_id).announced_at

    async def expires_at(self, node_id: str) -> float:
        return self._lease(node_id).expires_at

    async def announce(self, node: NodeRecord) -> bool:
        self.sweep()
        return self._table.announce(node, self.seconds())

    def renew(self, node_id: str) -> bool:
        self.sweep()
        return self._table.renew(node_id, self.seconds())

    async def withdraw(self, node_id: str, why: str = "withdrawn") -> NodeRecord | None:
        self.sweep()
        return self._table.withdraw(node_id, why)

    def _lease(self, node_id: str) -> Lease:
        lease = self._table.lease(node_id)
        assert lease is not None, node_id
        return lease
