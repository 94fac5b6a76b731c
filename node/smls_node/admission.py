# SPDX-License-Identifier: MIT
"""Who is let in, and who is told at once to go elsewhere. Pure.

A request that cannot be answered before its deadline, by the learnt batch times, is refused when
it comes: its client can still ask another node, and the time that it would have taken serves
others. Without this a queue under overload holds nothing but requests that will come too late.
"""

from __future__ import annotations

from smls.errors import Overloaded
from smls_node.batcher import Batcher

MARGIN = 1.15
"""Estimates are missed by some per cent; a request let in should be answered in time. With 1.1, one
answer of a hundred came after its deadline under three times MobileNetV2's load."""


def expected_seconds(batcher: Batcher, priority: int, now: float, rows: int = 1) -> float:
    """Seconds until a new request of ``priority`` and so many rows would be answered.

    What waits before it is run in full batches, by all workers side by side; then its own batch.
    """
    size, time = batcher.largest(), batcher.time
    rounds, rest = divmod(batcher.ahead_of(priority), size * batcher.workers)
    own = max(rows, min(size, rest // batcher.workers + rows))
    return batcher.until_free(now) + rounds * time.seconds(size) + time.seconds(own)


def refusal(
    batcher: Batcher, priority: int, deadline: float, now: float, rows: int = 1
) -> Overloaded | None:
    """Why the request is not let in, where it is not.

    A request that finds an idle worker is always let in: to try costs nothing, and what was
    learnt may be wrong.
    """
    if batcher.idle > 0 and batcher.waiting == 0:
        return None
    expected = expected_seconds(batcher, priority, now, rows)
    late = now + expected * MARGIN - deadline
    if late <= 0:
        return None
    return _overloaded(batcher, expected, late, f"wanted within {deadline - now:.3f} s")


def full(batcher: Batcher, priority: int, now: float) -> Overloaded:
    """Why a request is not let in where the queue is at its bound."""
    expected = expected_seconds(batcher, priority, now)
    return _overloaded(batcher, expected, expected, "the queue is at its bound")


def _overloaded(batcher: Batcher, expected: float, late: float, problem: str) -> Overloaded:
    return Overloaded(
        f"the queue is too long: {batcher.waiting_rows} wait, {batcher.running} run, an answer "
        f"would take {expected:.3f} s; {problem}",
        retry_after_seconds=late,
        details={
            "waiting": batcher.waiting_rows,
            "running": batcher.running,
            "expected_ms": round(expected * 1000, 1),
        },
    )
