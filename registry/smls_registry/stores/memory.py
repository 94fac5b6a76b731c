# SPDX-License-Identifier: MIT
"""The store of a registry that stands alone: everything in its memory."""

from __future__ import annotations

from collections.abc import Callable

from smls.wire import NodeRecord
from smls_registry.leases import Lease, LeaseTable


class MemoryStore:
    """Keeps the nodes in ``table``; ``seconds`` reads a monotonic clock."""

    def __init__(self, table: LeaseTable, seconds: Callable[[], float]) -> None:
        self.ttl_seconds = table.ttl_seconds
        self.roster = table.roster
        self._table = table
        self.seconds = seconds

    def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def sweep(self) -> None:
        self._table.expire(self.seconds())

    def lease(self, node_id: str) -> Lease | None:
        return self._table.lease(node_id)

    def leases(self) -> list[Lease]:
        return self._table.leases()

    async def announce(self, node: NodeRecord) -> bool:
        self.sweep()
        return self._table.announce(node, self.seconds())

    def renew(self, node_id: str) -> bool:
        self.sweep()
        return self._table.renew(node_id, self.seconds())

    async def withdraw(self, node_id: str, what: str = "withdrawn") -> NodeRecord | None:
        self.sweep()
        return self._table.withdraw(node_id, what)
