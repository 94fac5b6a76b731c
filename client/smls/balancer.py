# SPDX-License-Identifier: MIT
"""Who gets the next request: what a policy is told, and what it has to say.

A policy knows no clock, socket or thread: ``now`` is handed in as seconds of a monotonic clock,
so it can be tried out at a desk and runs in the simulator (``tests/fleet``) as it does in the
client. Whether a node is sound, has room or was tried already is decided before it is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Protocol, runtime_checkable

from attrs import field, frozen

from smls.wire import LoadReport, ModelRecord, NodeRecord


@frozen(cache_hash=True)
class Want:
    """What a request is for; ``None`` stands for any.

    ``rows`` is how many texts, rows or such it has: a node counts its queue and its batches in
    them. Requests that differ in nothing else are of one kind, and equal.
    """

    model: str | None = None
    version: str | None = None
    label: str | None = None
    rows: int = field(default=1, eq=False)

    def record(self, node: NodeRecord) -> ModelRecord | None:
        """The version on ``node`` that is wanted; ``None`` where the node does not tell."""
        for known in node.models:
            if self.model in (None, known.name) and known.answers(self.version, self.label):
                return known
        return None


class Outcome(Enum):
    """How an attempt ended."""

    ANSWERED = "answered"
    """The node answered, if only that the request is at fault or came too late."""
    PUSHBACK = "pushback"
    """The node is full, loading or draining: it works, and wants the request elsewhere."""
    REFUSED = "refused"
    """There was no connection: nothing of the request reached the node."""
    FAILED = "failed"
    """The node broke off, did not answer in time, or answered that it is at fault."""
    CANCELLED = "cancelled"
    """The caller gave it up, which says nothing about the node."""


@frozen(eq=False)
class Attempt:
    """One request on its way to ``node``, since ``sent_at``; picked among ``nodes``."""

    node: NodeRecord
    want: Want
    sent_at: float
    nodes: Sequence[NodeRecord] = field(default=(), repr=False)


class Balancer(Protocol):
    """Picks nodes, and is told of each attempt's beginning and end."""

    def pick(self, nodes: Sequence[NodeRecord], want: Want, now: float) -> NodeRecord:
        """The node among ``nodes``, one at least, that gets the next request.

        As long as nothing changes the very same sequence is handed in, so what is worked out
        from it can be kept.
        """

    def sent(self, attempt: Attempt) -> None:
        """``attempt`` is on its way; not always to the node that was picked last."""

    def done(
        self, attempt: Attempt, outcome: Outcome, report: LoadReport | None, now: float
    ) -> None:
        """``attempt`` has ended, once and whatever became of it; ``report`` is what its answer
        says of the node's load, if there was an answer and it says anything."""


@runtime_checkable
class Foresight(Protocol):
    """What a policy may know besides; hedging needs it."""

    def expected(self, node: NodeRecord, want: Want, now: float) -> float | None:
        """Seconds until ``node`` would answer one more request; ``None`` where it is not known."""

    def late_at(self, attempt: Attempt) -> float | None:
        """The moment from which ``attempt``, still under way, is late; ``None`` where nothing
        was expected of it."""


def capacities(nodes: Sequence[NodeRecord], want: Want) -> list[float]:
    """What each node advertises, in requests a second; one that says nothing counts as the mean
    of the others, and as 1 where none says anything."""
    records = [want.record(node) for node in nodes]
    told = [0.0 if record is None else record.capacity for record in records]
    known = [capacity for capacity in told if capacity > 0]
    if len(known) == len(told):
        return told
    mean = sum(known) / len(known) if known else 1.0
    return [capacity or mean for capacity in told]
