# SPDX-License-Identifier: MIT
"""Where the nodes are kept: what a registry works on, whatever is behind it."""

from __future__ import annotations

from typing import Protocol

from smls.wire import NodeRecord
from smls_registry.leases import Lease
from smls_registry.roster import Roster


class Store(Protocol):
    """Keeps the nodes' leases, and a ``roster`` that shows them.

    The roster is read from memory at any time, after ``sweep``. What writes may have to wait for
    others, and raises ``StoreUnavailable`` where they do not answer.
    """

    ttl_seconds: float
    roster: Roster

    def seconds(self) -> float:
        """Now, by the monotonic clock of its leases."""

    def start(self) -> None:
        """Begins to work."""

    async def stop(self) -> None:
        """Ends it; the leases go on."""

    def sweep(self) -> None:
        """Ends what ran out."""

    def lease(self, node_id: str) -> Lease | None:
        """The lease of that node, a suspect's too, if there is one."""

    def leases(self) -> list[Lease]:
        """All leases, by address."""

    async def announce(self, node: NodeRecord) -> bool:
        """Announces ``node`` or renews its lease; whether its id was unknown.

        :raises Overloaded: where there is no place for it.
        """

    def renew(self, node_id: str) -> bool:
        """Renews the lease of ``node_id`` as it is; ``False`` where it must be announced."""

    async def withdraw(self, node_id: str, what: str = "withdrawn") -> NodeRecord | None:
        """Ends the lease of ``node_id`` and returns its record, if there is one."""
