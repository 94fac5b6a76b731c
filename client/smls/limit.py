# SPDX-License-Identifier: MIT
"""How many requests of a client a node may have at the same time.

There is no bound until a node pushes back; then it follows what the node takes: a tenth less for
each pushback, one more for each round of answers (additive increase, multiplicative decrease),
and never less than one full batch. Latency is no sign of congestion here: a batching node answers
more slowly because it works well.

A node that has answered nothing yet gets one batch and no more until it does: its first batches
may be slow, and many clients find it free at the same time.
"""

from __future__ import annotations

from attrs import define

from smls.balancer import Attempt, Outcome, Want
from smls.wire import LoadReport, NodeRecord

DECREASE = 0.9

FIRST_BATCH = 8
"""What a batch is taken to be before any node has told."""

MEMORY = 4096
"""Nodes that are remembered; those longest idle are forgotten first."""


@define(eq=False)
class _Limit:
    in_flight: int = 0
    answered: bool = False
    batch: int = 0
    bound: float = 0.0
    """0 where there is none."""


class Limits:
    """The limits of a client, for each node and kind of request."""

    def __init__(self) -> None:
        self._limits: dict[tuple[str, Want], _Limit] = {}
        self._batches: dict[Want, int] = {}
        self._reached: set[tuple[str, Want]] = set()

    @property
    def open(self) -> bool:
        """Whether all nodes have room."""
        return not self._reached

    def has_room(self, node: NodeRecord, want: Want) -> bool:
        """Whether ``node`` is below its limit, and below one batch while it starts."""
        return (node.id, want) not in self._reached

    def full(self, node: NodeRecord, want: Want) -> bool:
        """Whether ``node`` is at a limit that it showed by pushing back."""
        key = (node.id, want)
        return key in self._reached and self._limits[key].bound > 0

    def sent(self, attempt: Attempt) -> None:
        key = (attempt.node.id, attempt.want)
        limit = self._limits.pop(key, None) or _Limit()
        limit.in_flight += 1
        self._limits[key] = limit
        self._check(key, limit)
        if len(self._limits) > MEMORY:
            oldest = next(iter(self._limits))
            if self._limits[oldest].in_flight == 0:
                del self._limits[oldest]

    def done(self, attempt: Attempt, outcome: Outcome, report: LoadReport | None) -> None:
        key = (attempt.node.id, attempt.want)
        limit = self._limits[key]
        if report is not None:
            limit.batch = report.batch_max * report.runs
            self._batches[attempt.want] = limit.batch
        if outcome is Outcome.PUSHBACK and report is not None:
            limit.bound = max(1.0, limit.batch, DECREASE * (limit.bound or limit.in_flight))
        elif outcome is Outcome.ANSWERED:
            limit.answered = True
            if limit.bound and limit.in_flight * 2 >= limit.bound:
                limit.bound += 1 / limit.bound
        limit.in_flight -= 1
        self._check(key, limit)

    def _check(self, key: tuple[str, Want], limit: _Limit) -> None:
        if limit.bound:
            reached = limit.in_flight >= int(limit.bound)
        else:
            reached = not limit.answered and limit.in_flight >= self._batches.get(
                key[1], FIRST_BATCH
            )
        if reached:
            self._reached.add(key)
        else:
            self._reached.discard(key)
