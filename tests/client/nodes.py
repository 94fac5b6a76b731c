# SPDX-License-Identifier: MIT
"""Records of nodes that exist on paper only."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import evolve

from smls.balancer import Attempt, Want
from smls.wire import LoadReport, ModelRecord, NodeRecord

WANT = Want("flowers")


def node(number: int, capacity: float = 0.0, **named: object) -> NodeRecord:
    models = (ModelRecord("flowers", capacity=capacity),)
    return NodeRecord(id=f"n{number}", address=f"n{number}:1", models=models, **named)  # type: ignore[arg-type]


def fleet(numbers: Iterable[int], capacity: float = 0.0) -> tuple[NodeRecord, ...]:
    return tuple(node(number, capacity) for number in numbers)


def attempt(
    to: NodeRecord, now: float = 0.0, nodes: tuple[NodeRecord, ...] = (), rows: int = 1
) -> Attempt:
    return Attempt(to, evolve(WANT, rows=rows), now, nodes or (to,))


def report(queue: int = 0, busy_ms: float = 0.0, in_flight: int | None = None) -> LoadReport:
    """Of a node with batches of 30 + 2·n ms, 32 at most."""
    running = 8 if busy_ms else 0
    return LoadReport(
        in_flight=queue + running if in_flight is None else in_flight,
        queue=queue,
        busy_ms=busy_ms,
        a_ms=30.0,
        b_ms=2.0,
        batch_max=32,
        runs=1,
    )
