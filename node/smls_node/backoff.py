# SPDX-License-Identifier: MIT
"""How soon a process that ended is started again. Pure."""

from __future__ import annotations

SHORTEST_SECONDS = 0.1
LONGEST_SECONDS = 30.0
"""Between an end and the next start: twice as long each time."""

STEADY_SECONDS = 60.0
"""A process that has lived so long has not ended from its start."""


class Backoff:
    """The pauses before one process's starts."""

    def __init__(self) -> None:
        self._starts = 0

    def ended(self, lived: float) -> float:
        """Seconds to wait before the next start, after a life of ``lived`` seconds."""
        self._starts = 1 if lived >= STEADY_SECONDS else self._starts + 1
        return pause_before(self._starts)


def pause_before(start: int) -> float:
    """Seconds to wait before the ``start``-th start in a row, which are counted from 1.

    >>> [pause_before(start) for start in (1, 2, 3, 20)]
    [0.1, 0.2, 0.4, 30.0]
    """
    return float(min(LONGEST_SECONDS, SHORTEST_SECONDS * 2 ** min(start - 1, 32)))
