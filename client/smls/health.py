# SPDX-License-Identifier: MIT
"""Which nodes are better left alone for a moment."""

from __future__ import annotations

from collections.abc import Sequence

from smls.wire import NodeRecord


class Suspects:
    """Nodes that failed a moment ago: they come last, and are not ruled out.

    They are known by their id, so a node that was started again is free of suspicion at once.
    """

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def suspect(self, node: NodeRecord, now: float, seconds: float) -> None:
        """Puts ``node`` last for the next ``seconds``."""
        self._until[node.id] = now + seconds

    def clear(self, node: NodeRecord) -> None:
        """``node`` has answered."""
        self._until.pop(node.id, None)

    def sound(self, nodes: Sequence[NodeRecord], now: float) -> list[NodeRecord]:
        """Those of ``nodes`` that are under no suspicion."""
        self._until = {known: until for known, until in self._until.items() if until > now}
        return [node for node in nodes if node.id not in self._until]
