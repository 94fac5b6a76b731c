# SPDX-License-Identifier: MIT
"""The default policy: the node that is expected to answer first.

A node tells with each answer what it has queued, when it is free, and that a batch of n takes
a + b·n. From that, and from what this client sent there since, follows when one more request
would be answered: its expected completion time. A node whose next batch has room costs only b
more, so batches fill by themselves. A request of several rows costs b for each of them, and
counts as so many: all that a node reports is in rows.

On its own this is worse than taking turns where several clients choose among equal nodes: what
they know is as old as their last answer, so they all go where a node was free a moment ago. So
there are four terms beside it, and the first two do not matter to a client that is alone:

- **What others do meanwhile.** Whatever the nodes have in flight beyond this client's own is
  taken to be spread over the nodes as its own is: each own request in flight at a node stands
  for as many of the others' as there are to each own.
- **A price on small nodes**, the same random part of what others have in flight, over the node's
  capacity. Where all nodes are alike it changes nothing. Where they are not, it lets few clients
  at a time go to a slow node that looks free: as many as it has capacity for.
- **Lateness.** What a node reports it has to learn first, and one that hangs reports nothing. So
  a node whose oldest request is overdue costs more by the moment; and one that answered late is
  expected to take that long again, until it answers as fast as is expected of it (in the manner
  of the peak in Finagle's ``PeakEwma``, which counts at once and fades slowly). Overdue is what
  takes longer than expected by more than answers usually do, their mean and some mean deviations
  of it (V. Jacobson, Congestion Avoidance and Control, SIGCOMM 1988): so other clients of which
  nothing is known make a client patient, and it is as impatient as it may be where answers come
  as expected. What was overtaken by a later request that was answered in time is no lateness of
  the node's: a connection stalls alone, a node with all that it has.
- **The way there.** What an answer takes beyond what the node needs for it, for each of this
  client's requests in flight there, is the link's: large images on a thin link wait for each
  other. Each moment counts for as many as share the link then, whoever was sent first.

A node that turns slow, or well again, at once tells its registry, and so all clients, by another
capacity in its record: until it answers, it is taken to be as many times as slow as it says.

A report that is older than ``STALE_SECONDS`` says little: such a node gets a request now and
then, the more seldom the slower it was, so that one which has recovered is found.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, sqrt
from random import Random

from attrs import define, field

from smls.balancer import Attempt, Outcome, Want, capacities
from smls.loads import Load
from smls.policies import MEMORY
from smls.wire import LoadReport, NodeRecord

NOISE = 0.02
"""Estimates are stretched by up to this part, so that clients that know the same differ."""

DEVIATIONS = 3.0
"""An answer is late that takes so many mean deviations longer than answers do. From the
simulation: with 4, slow nodes are found later; with 2, many are hedged that are only unlucky."""

LEAST_DEVIATION = 0.05
"""Timers and schedulers are off by some milliseconds even where nothing else is."""

OVER, DEVIATION = 0.3, 0.2
"""What a client takes the two means of ``_Pool`` to be before it has seen an answer."""

DEVIATION_WEIGHT = 1 / 32
"""How much one answer counts in these means: a node that turns slow does not make it usual."""

LATE_WEIGHT = 6.0
"""What each second of lateness weighs: a node that is late most likely stays so for longer."""

FORGIVEN = 2.0
"""A node that was late is trusted again when an answer takes no more than so many times what was
expected, as most answers of a node that is well do."""

STALE_SECONDS = 2.0
"""A report of that age is of another time: a batch seldom takes longer."""

STALE_SHARE = 0.05
"""The part of its share, by capacity, with which a node is asked that has gone stale. A fleet of
100 clients then still finds it at once. One that is expected to take so many times as long as
the best one has so many times less: it costs next to nothing, and more where all are busy."""

OWN_WEIGHT = 0.02
"""How much one pick counts in the mean of what this client has in flight."""


@define(eq=False)
class _Pool:
    """The loads for one kind of request."""

    nodes: Sequence[NodeRecord] | None = None
    listed: list[Load] = field(factory=list)
    loads: dict[str, Load] = field(factory=dict)
    capacity: float = 0.0
    in_flight: int = 0
    """How many rows."""
    own: float = 0.0
    crowd: float = 0.0
    over: float = OVER
    """By how many of the promise's units answers take longer than is expected, in the mean."""
    deviation: float = DEVIATION
    """How far off that mean they are, in the mean."""

    @property
    def allowed(self) -> float:
        """By how many units an answer may take longer and is not late."""
        return self.over + DEVIATIONS * max(LEAST_DEVIATION, self.deviation)

    def learn(self, over: float) -> None:
        """An answer took ``over`` units longer than expected; a late one counts as just late, so
        what is usual follows a fleet that changes for good, and no single fault."""
        off = min(over, self.allowed) - self.over
        self.deviation += DEVIATION_WEIGHT * (abs(off) - self.deviation)
        self.over += DEVIATION_WEIGHT * off


class ExpectedCompletion:
    """Picks by expected completion time, as the module says; O(nodes), some 0.2 µs for each.

    Where nothing was reported yet it takes the fewest in flight for the capacity, and turns.
    """

    def __init__(self, random: Random | None = None) -> None:
        self._random = random or Random()
        self._pools: dict[Want, _Pool] = {}
        self._turn = 0

    def pick(self, nodes: Sequence[NodeRecord], want: Want, now: float) -> NodeRecord:
        pool = self._pool(want)
        if nodes is not pool.nodes:
            self._list(pool, nodes, want, now)
        random = self._random.random
        pool.own += OWN_WEIGHT * (pool.in_flight - pool.own)
        others = max(0.0, pool.crowd - pool.own)
        stands_for = others / max(1.0, pool.own)
        price = others * sqrt(random())
        more = want.rows - 1
        best, least, index, crowd = -1, inf, -1, 0.0
        unheard: list[int] = []
        for load in pool.listed:
            index += 1
            if now - load.heard_at > STALE_SECONDS:
                unheard.append(index)
                if load.report is None:
                    continue
            else:
                crowd += load.crowd
            if load.queue and load.free_at < now:
                load.advance(now)
            wait = load.free_at - now
            cost = load.run + load.backlog + more * load.each
            if wait > 0:
                cost += wait
            if cost < load.floor:
                cost = max(cost, load.lateness())
            if now > load.late_at:
                cost += LATE_WEIGHT * (now - load.late_at)
            cost += load.way * (load.in_flight + 1)
            cost *= 1 + NOISE * random()
            cost += (stands_for * load.rows + price) * load.pace
            if cost < least:
                best, least = index, cost
        pool.crowd = crowd
        if unheard:
            best = self._try_out(pool, unheard, best, least)
        return nodes[best]

    def sent(self, attempt: Attempt) -> None:
        pool = self._pool(attempt.want)
        load = self._load(pool, attempt.node, attempt.want)
        load.share(attempt.sent_at)
        promise = load.promise(pool.allowed, attempt.sent_at, attempt.want.rows)
        load.promises[attempt] = promise
        self._turn += 1
        load.turn = self._turn
        pool.in_flight += promise.rows
        load.in_flight += 1
        load.rows += promise.rows
        load.join(attempt.sent_at, promise.rows)
        load.watch()

    def done(
        self, attempt: Attempt, outcome: Outcome, report: LoadReport | None, now: float
    ) -> None:
        pool = self._pool(attempt.want)
        load = self._load(pool, attempt.node, attempt.want)
        promise = load.promises.pop(attempt, None)
        if promise is None:
            return
        load.share(now)
        pool.in_flight -= promise.rows
        load.in_flight -= 1
        load.rows -= promise.rows
        taken = now - attempt.sent_at
        part = load.shared - promise.shared
        sharing = taken / part if part > 0 else promise.sharing
        work = promise.work
        if work == inf and report is not None:
            work = (report.a_ms + report.b_ms * attempt.want.rows) / 1000
        if outcome is Outcome.ANSWERED and work < inf:
            load.answered(max(0.0, min(taken, promise.longest(sharing)) - work), sharing)
            if promise.work < inf:
                pool.learn((taken - promise.seconds(sharing)) / promise.unit(sharing))
        forgiven = outcome is Outcome.ANSWERED and taken <= FORGIVEN * promise.seconds(sharing)
        late = taken > promise.longest(sharing)
        if outcome is Outcome.ANSWERED and not late:
            load.well_at = max(load.well_at, attempt.sent_at)
        if (late and attempt.sent_at >= load.well_at) or (load.floor and not forgiven):
            load.floor = max(taken, load.floor if outcome is not Outcome.ANSWERED else 0.0)
            load.floor_sharing = sharing
        else:
            load.floor = 0.0
        if report is not None:
            load.hear(report, now)
        elif outcome is not Outcome.ANSWERED:
            load.leave(promise.rows)
        load.watch()

    def expected(self, node: NodeRecord, want: Want, now: float) -> float | None:
        """Seconds until ``node`` would answer one more request; ``None`` before its first
        report."""
        load = self._pool(want).loads.get(node.id)
        return None if load is None else load.expected(now, want.rows)

    def late_at(self, attempt: Attempt) -> float | None:
        """The moment from which ``attempt`` is late; ``None`` where nothing was expected."""
        load = self._pool(attempt.want).loads[attempt.node.id]
        promise = load.promises.get(attempt)
        if promise is None or promise.work == inf:
            return None
        return load.late_from(attempt, promise)

    def _try_out(self, pool: _Pool, unheard: list[int], best: int, least: float) -> int:
        """One of the ``unheard`` now and then, by capacity; else ``best``, if there is one."""
        draw = self._random.random() * pool.capacity
        for index in unheard:
            load = pool.listed[index]
            new = load.report is None
            slower = max(1.0, max(load.floor, load.run) / least)
            draw -= load.capacity if new else load.capacity * STALE_SHARE / slower
            if draw < 0 and best >= 0:
                return index if new or load.in_flight == 0 else best
        if best >= 0:
            return best
        return min(
            unheard,
            key=lambda index: (
                (pool.listed[index].rows + 1) / pool.listed[index].capacity,
                pool.listed[index].turn,
            ),
        )

    def _pool(self, want: Want) -> _Pool:
        pool = self._pools.get(want)
        if pool is None:
            if len(self._pools) >= MEMORY:
                del self._pools[next(iter(self._pools))]
            pool = self._pools[want] = _Pool()
        return pool

    def _list(self, pool: _Pool, nodes: Sequence[NodeRecord], want: Want, now: float) -> None:
        pool.listed = [self._load(pool, node, want) for node in nodes]
        for load, capacity in zip(pool.listed, capacities(nodes, want), strict=True):
            load.capacity = capacity
        for load, node in zip(pool.listed, nodes, strict=True):
            record = want.record(node)
            load.tell(0.0 if record is None else record.capacity, now)
        pool.capacity = sum(load.capacity for load in pool.listed)
        pool.nodes = nodes
        if len(pool.loads) > MEMORY:
            kept = {id(load) for load in pool.listed}
            pool.loads = {
                node_id: load
                for node_id, load in pool.loads.items()
                if load.in_flight or id(load) in kept
            }

    def _load(self, pool: _Pool, node: NodeRecord, want: Want) -> Load:
        load = pool.loads.get(node.id)
        if load is None:
            capacity = capacities([node], want)[0]
            load = pool.loads[node.id] = Load(capacity, turn=self._random.random() - 1)
        return load
