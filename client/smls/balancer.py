# SPDX-License-Identifier: MIT
"""Who gets the next request."""

from __future__ import annotations

from collections.abc import Container, Sequence
from random import Random
from typing import Protocol

from smls.wire import NodeRecord

MEMORY = 4096
"""Addresses whose last turn is remembered; the longest-waiting are forgotten first."""


class Balancer(Protocol):
    """Picks nodes. It knows no clock and opens nothing, so it can be tried out at a desk."""

    def pick(self, nodes: Sequence[NodeRecord], tried: Container[str]) -> NodeRecord | None:
        """The node among ``nodes`` that gets the next request, or ``None`` where none is left.

        ``tried`` holds the addresses that this call has been to already.
        """


class RoundRobin:
    """Gives the turn to the node that has waited longest; a new node gets one, not a burst.

    Between two nodes that are there all along the turns alternate, whoever else comes and goes.
    Nodes that had no turn yet are drawn by ``random``, so that many clients that start at the
    same time do not all begin with the same node.
    """

    def __init__(self, random: Random | None = None) -> None:
        self._random = random or Random()
        self._turn = 0
        self._last: dict[str, int] = {}  # address: its last turn; in the order of those turns

    def pick(self, nodes: Sequence[NodeRecord], tried: Container[str]) -> NodeRecord | None:
        left = [node for node in nodes if node.address not in tried]
        if not left:
            return None
        longest = min(self._last.get(node.address, 0) for node in left)
        chosen = self._random.choice(
            [node for node in left if self._last.get(node.address, 0) == longest]
        )
        self._turn += 1
        self._last.pop(chosen.address, None)
        self._last[chosen.address] = self._turn
        if len(self._last) > MEMORY:
            del self._last[next(iter(self._last))]
        return chosen
