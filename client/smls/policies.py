# SPDX-License-Identifier: MIT
"""The simple ways to pick a node: turns, fewest in flight, two choices, weighted turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import inf
from random import Random

from smls.balancer import Attempt, Outcome, Want, capacities
from smls.wire import LoadReport, NodeRecord

MEMORY = 4096
"""Nodes that a policy remembers; those it has not met for longest are forgotten first."""


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

    def pick(self, nodes: Sequence[NodeRecord], want: Want, now: float) -> NodeRecord:
        longest = min(self._last.get(node.address, 0) for node in nodes)
        waiting = [node for node in nodes if self._last.get(node.address, 0) == longest]
        return self._random.choice(waiting)

    def sent(self, attempt: Attempt) -> None:
        self._turn += 1
        self._last.pop(attempt.node.address, None)
        self._last[attempt.node.address] = self._turn
        if len(self._last) > MEMORY:
            del self._last[next(iter(self._last))]

    def done(
        self, attempt: Attempt, outcome: Outcome, report: LoadReport | None, now: float
    ) -> None:
        """Turns do not depend on answers."""


class LeastInFlight:
    """The node with the fewest own requests in flight for its capacity; ties take turns.

    It needs no report, and holds wherever the nodes' capacities are true.
    """

    def __init__(self, random: Random | None = None) -> None:
        self._turns = RoundRobin(random)
        self._in_flight: Counter[str] = Counter()

    def pick(self, nodes: Sequence[NodeRecord], want: Want, now: float) -> NodeRecord:
        loads = [
            (self._in_flight[node.id] + 1) / capacity
            for node, capacity in zip(nodes, capacities(nodes, want), strict=True)
        ]
        least = min(loads)
        ties = [node for node, load in zip(nodes, loads, strict=True) if load == least]
        return self._turns.pick(ties, want, now)

    def sent(self, attempt: Attempt) -> None:
        self._turns.sent(attempt)
        self._in_flight[attempt.node.id] += 1

    def done(
        self, attempt: Attempt, outcome: Outcome, report: LoadReport | None, now: float
    ) -> None:
        self._in_flight[attempt.node.id] -= 1
        if self._in_flight[attempt.node.id] <= 0:
            del self._in_flight[attempt.node.id]


class TwoChoices(LeastInFlight):
    """The better of two nodes drawn at random, by requests in flight for capacity.

    M. Mitzenmacher, The Power of Two Choices in Randomized Load Balancing (1996). Not for nodes
    of uneven capacity: two slow ones are drawn as often as two fast ones.
    """

    def __init__(self, random: Random | None = None) -> None:
        super().__init__(random)
        self._random = random or Random()

    def pick(self, nodes: Sequence[NodeRecord], want: Want, now: float) -> NodeRecord:
        return super().pick(self._random.sample(list(nodes), min(2, len(nodes))), want, now)


class Weighted:
    """Turns in proportion to the nodes' capacities, evenly spread; what is in flight is ignored.

    Stride scheduling: C. Waldspurger and W. Weihl (MIT/LCS/TM-528, 1995).
    """

    def __init__(self, random: Random | None = None) -> None:
        self._random = random or Random()
        self._now = 0.0  # the virtual moment of the last turn
        self._next: dict[str, float] = {}  # address: the virtual moment of its next turn
        self._strides: dict[str, float] = {}

    def pick(self, nodes: Sequence[NodeRecord], want: Want, now: float) -> NodeRecord:
        for node, capacity in zip(nodes, capacities(nodes, want), strict=True):
            stride = self._strides[node.address] = 1 / capacity
            if self._next.get(node.address, -inf) < self._now - stride:
                # New, or long away: it gets its turns from now on, and no burst.
                self._next[node.address] = self._now + stride * self._random.random()
        return min(nodes, key=lambda node: self._next[node.address])

    def sent(self, attempt: Attempt) -> None:
        address = attempt.node.address
        turn = self._next.pop(address, self._now)
        self._now = max(self._now, turn)
        self._next[address] = turn + self._strides.get(address, 0.0)
        if len(self._next) > MEMORY:
            oldest = next(iter(self._next))
            del self._next[oldest]
            self._strides.pop(oldest, None)

    def done(
        self, attempt: Attempt, outcome: Outcome, report: LoadReport | None, now: float
    ) -> None:
        """Turns do not depend on answers."""
