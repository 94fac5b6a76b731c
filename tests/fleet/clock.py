# SPDX-License-Identifier: MIT
"""Simulated time: what is due is done in its order, and nothing waits."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any


class Clock:
    """A heap of things to do; ``now`` is in seconds. As fast as Python allows."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._sequence = 0

    def after(self, seconds: float, do: Callable[..., Any], *arguments: Any) -> None:
        """Calls ``do`` in so many seconds."""
        self._sequence += 1
        heappush(self._due, (self.now + seconds, self._sequence, do, arguments))

    def run(self, until: float) -> None:
        """Does all that is due until then."""
        due = self._due
        while due and due[0][0] <= until:
            self.now, _, do, arguments = heappop(due)
            do(*arguments)
        self.now = until
