# SPDX-License-Identifier: MIT
"""Which of the nodes that fall silent are dropped, and which become suspects.

Silence has two causes that look alike: a node that lost its power, and a registry that lost its
network. A few nodes of many that fall silent are dropped. Where more than half of a model's nodes
do within one TTL it is rather the registry that hears nothing, and who cannot hear does not judge:
the nodes stay listed as suspects, clients find out for themselves, and a suspect that stays silent
for ``SUSPECT_TTLS`` is released. A fleet of two may lose one node, and the last one of any model
becomes a suspect. (Eureka's self-preservation has the same end, but keeps a dead node for good
where six nodes or fewer are known.)

Pure, and not safe for threads.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from smls.wire import NodeRecord
from smls_registry.roster import Roster
from smls_registry.turns import models

SUSPECT_TTLS = 5
"""TTLs that a suspect stays listed without a renewal: a network that is away longer is rare."""


class Silences:
    """The nodes of ``roster`` that were dropped because they fell silent, within the last TTL."""

    def __init__(self, roster: Roster, ttl_seconds: float) -> None:
        self._roster = roster
        self._ttl_seconds = ttl_seconds
        self._dropped: deque[tuple[float, frozenset[str | None]]] = deque()

    def judge(
        self, silent: Iterable[NodeRecord], now: float
    ) -> tuple[list[NodeRecord], list[NodeRecord]]:
        """Which of the ``silent`` nodes, all of the roster still, are dropped; and the suspects."""
        while self._dropped and self._dropped[0][0] <= now - self._ttl_seconds:
            self._dropped.popleft()
        lost = Counter(model for _, served in self._dropped for model in served)
        counted = {model: self._roster.count(model) + number for model, number in lost.items()}
        dropped, suspects = [], []
        for node in silent:
            served = frozenset({None, *models(node)})
            # What serves no model counts among all nodes.
            judged = served - {None} or served
            if all(
                2 * (lost[model] + 1) <= counted.get(model, self._roster.count(model))
                for model in judged
            ):
                lost.update(served)
                self._dropped.append((now, served))
                dropped.append(node)
            else:
                suspects.append(node)
        return dropped, suspects
