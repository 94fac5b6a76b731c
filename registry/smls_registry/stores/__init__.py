# SPDX-License-Identifier: MIT
"""Where the nodes are kept: what a registry works on, whatever is behind it."""

from __future__ import annotations

from typing import Protocol

from smls.wire import NodeRecord
from smls_registry.roster import Roster


class Store(Protocol):
    """Keeps the nodes' leases, and a ``roster`` that shows them.

    The roster is read from memory at any time after ``sweep``, once it is ``known``. What writes
    may have to wait for others.
    """

    ttl_seconds: float
    roster: Roster

    @property
    def known(self) -> bool:
        """Whether the roster shows what there is, as it does once others were asked."""

    @property
    def settling(self) -> bool:
        """Whether nodes that live may be missing, for it has just started and forgot them."""

    def seconds(self) -> float:
        """Now, by the monotonic clock of its leases."""

    def start(self) -> None:
        """Begins to work."""

    async def stop(self) -> None:
        """Ends its work; the leases go on."""

    def sweep(self) -> None:
        """Ends what ran out."""

    def known_since(self, node_id: str) -> float:
        """When the node, one of the roster, became known here."""

    async def expires_at(self, node_id: str) -> float:
        """When the lease of the node, one of the roster, runs out, if it is not renewed.

        :raises Unavailable: where the store cannot be asked.
        """

    async def announce(self, node: NodeRecord) -> bool:
        """Announces ``node`` or renews its lease; whether its id was unknown.

        :raises Unavailable: where there is no place for it, or the store does not answer.
        """

    def renew(self, node_id: str) -> bool:
        """Renews the lease of ``node_id`` as it is; ``False`` where it must be announced."""

    async def withdraw(self, node_id: str, why: str = "withdrawn") -> NodeRecord | None:
        """Ends the lease of ``node_id`` and returns its record, if there is one.

        :raises Unavailable: where the store does not answer.
        """
