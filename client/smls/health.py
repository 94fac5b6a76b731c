# SPDX-License-Identifier: MIT
"""Which nodes are better left alone for a while.

The laws:

- A node that fails ``FAILURES`` times in a row is ejected for 2 s, and twice as long each time
  that it comes back and fails again, up to a minute.
- From its first failure on, a node is on trial until it answers what was sent no earlier than
  what failed: it gets nothing while any such request is on its way, so then one at a time. So no
  more than ``FAILURES`` requests reach it before it is ejected, unless more were on their way
  when the first failure was heard of; and one more each time that it comes back.
- Never is more than half of a model's nodes ejected, or one where there are fewer than four:
  a fault that all nodes show is not the nodes'.
- Pushback is no failure. A node that pushes back without a report of its load takes nothing at
  all just now (it loads or drains): it rests for as long as it asks for.
- Nothing is forever: ejected nodes come last, and are asked where nobody else is left.

Nodes are known by their id, so one that was started again is free of suspicion at once.
"""

from __future__ import annotations

from random import Random

from attrs import define, field

from smls.balancer import Attempt, Outcome
from smls.wire import NodeRecord

FAILURES = 3
"""One may be the request's doing or a connection's, three in a row hardly are."""

EJECT_SECONDS = 2.0
MOST_EJECT_SECONDS = 60.0

JITTER = 0.2
"""Clients that ejected a node together come back to it apart."""

REST_SECONDS = 5.0
"""A node may ask for a longer rest, and is asked again all the same."""

MEMORY = 4096
"""Nodes with a bad record that are remembered."""


@define(eq=False)
class _Record:
    failures: int = 0
    failed_at: float = 0.0
    """When the attempt was sent that failed last."""
    ejections: int = 0
    until: float = 0.0
    rests_until: float = 0.0
    trials: set[Attempt] = field(factory=set)
    """What is on its way that was sent no earlier than what failed first."""


class Health:
    """The bad records of a client's nodes; ``random`` draws the jitter."""

    def __init__(self, random: Random | None = None) -> None:
        self._random = random or Random()
        self._records: dict[str, _Record] = {}
        self._under_way: dict[str, set[Attempt]] = {}

    @property
    def spotless(self) -> bool:
        """Whether nothing is held against any node."""
        return not self._records

    def sound(self, node: NodeRecord, now: float) -> bool:
        """Whether ``node`` may have a request: it is neither ejected, nor does it rest, nor is it
        on trial with another one."""
        record = self._records.get(node.id)
        return record is None or (
            now >= record.until and now >= record.rests_until and not record.trials
        )

    def sent(self, attempt: Attempt) -> None:
        """``attempt`` is on its way; on trial where its node has failed."""
        node_id = attempt.node.id
        self._under_way.setdefault(node_id, set()).add(attempt)
        record = self._records.get(node_id)
        if record is not None and record.failures:
            record.trials.add(attempt)

    def done(
        self, attempt: Attempt, outcome: Outcome, now: float, rest_seconds: float | None = None
    ) -> None:
        """``attempt`` has ended; its node asked for ``rest_seconds``, if for any."""
        node_id = attempt.node.id
        under_way = self._under_way[node_id]
        under_way.remove(attempt)
        if not under_way:
            del self._under_way[node_id]
        record = self._records.get(node_id)
        if outcome is Outcome.ANSWERED:
            # What was sent before it failed tells nothing of it since.
            if record is not None and attempt.sent_at >= record.failed_at:
                del self._records[node_id]
            return
        if record is not None:
            record.trials.discard(attempt)
        if outcome is Outcome.CANCELLED:
            return
        if outcome is Outcome.PUSHBACK:
            self._rest(node_id, now, rest_seconds)
            return
        record = self._record(node_id)
        if now < record.until:
            return  # it was sent before the node was ejected
        if record.failures == 0:
            record.trials = {other for other in under_way if other.sent_at >= attempt.sent_at}
        record.failures += 1
        record.failed_at = max(record.failed_at, attempt.sent_at)
        if (record.failures >= FAILURES or record.ejections) and self._may_eject(attempt, now):
            seconds = min(MOST_EJECT_SECONDS, EJECT_SECONDS * 2**record.ejections)
            record.ejections = min(record.ejections + 1, 10)
            record.until = now + seconds * self._random.uniform(1 - JITTER, 1 + JITTER)

    def _rest(self, node_id: str, now: float, seconds: float | None) -> None:
        record = self._records.get(node_id) if seconds is None else self._record(node_id)
        if record is not None:
            record.failures = 0
            record.rests_until = now + min(seconds or 0.0, REST_SECONDS)

    def _record(self, node_id: str) -> _Record:
        record = self._records.get(node_id)
        if record is None:
            if len(self._records) >= MEMORY:
                del self._records[next(iter(self._records))]
            record = self._records[node_id] = _Record()
        return record

    def _may_eject(self, attempt: Attempt, now: float) -> bool:
        ids = {node.id for node in attempt.nodes} - {attempt.node.id}
        away = sum(
            1
            for node_id, record in self._records.items()
            if node_id in ids and (now < record.until or record.trials)
        )
        return away < max(1, len(attempt.nodes) // 2)
