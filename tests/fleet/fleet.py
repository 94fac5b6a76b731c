# SPDX-License-Identifier: MIT
"""A simulated fleet: nodes, the clients with the project's own routing, and what became of calls.

Nothing here decides where a request goes: that is ``smls.routing``, the very objects that the
client uses. The calls come at random moments (Poisson), each from a client drawn at random.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from attrs import define, field, frozen

from smls.balancer import Attempt, Balancer, Outcome, Want
from smls.routing import POLICIES, Router
from smls.wire import LoadReport, NodeRecord
from tests.fleet.clock import Clock
from tests.fleet.nodes import MODEL, Kind, Mode, Node, Request

WANT = Want(MODEL)

CENTRAL = "central"
"""A scheduler that sees into all nodes at every moment and takes the one that is done first."""


@frozen
class Call:
    """What became of a call; ``seconds`` from its beginning. ``node`` is the one that answered,
    ``None`` where the call failed."""

    begun_at: float
    seconds: float
    node: int | None
    attempts: int


@frozen
class Plan:
    """What is simulated, all times in seconds.

    ``load`` is the part of the nodes' capacity that is asked for. ``events`` are done at their
    moment. ``delay`` is one way over the network, up to twice as long at random. ``lost_reports``
    is the part of the answers that come without one. A changed list of nodes reaches the clients
    ``news`` later, or never.
    """

    kinds: Sequence[Kind]
    load: float
    clients: int
    seconds: float
    policy: str = "expected-completion"
    events: Sequence[tuple[float, Callable[[Fleet], None]]] = ()
    timeout: float = 30.0
    hedge: bool = False
    delay: float = 0.0005
    lost_reports: float = 0.0
    news: float | None = None
    seed: int = 1


class Fleet:
    """Runs a plan; ``calls`` is what became of each call that ended, and ``attempts`` the moment,
    the client and the node of each request that was sent."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.clock = Clock()
        self.random = Random(plan.seed)
        self.nodes = [
            Node(self.clock, number, kind, self._news) for number, kind in enumerate(plan.kinds)
        ]
        self.records = tuple(node.record for node in self.nodes)
        self.calls: list[Call] = []
        self.attempts: list[tuple[float, int, int]] = []
        self._numbers = {node.record.address: n for n, node in enumerate(self.nodes)}
        self._rate = plan.load * sum(kind.capacity for kind in plan.kinds)
        self.routers = [
            Router(self._balancer(number), random=Random(f"{plan.seed} {number}"), hedge=plan.hedge)
            for number in range(plan.clients)
        ]

    @classmethod
    def run(cls, plan: Plan) -> Fleet:
        """The fleet after the plan, and after another half minute for what is on its way."""
        fleet = cls(plan)
        fleet._next()
        for moment, event in plan.events:
            fleet.clock.after(moment, event, fleet)
        fleet.clock.run(plan.seconds)
        fleet.clock.run(plan.seconds + plan.timeout)
        return fleet

    def set(self, number: int, mode: Mode) -> None:
        """The node ``number`` behaves so; the clients' list follows where the plan says so."""
        self.nodes[number].set(mode)
        self._news()

    def slow(self, number: int, times: float) -> None:
        """Batches of the node ``number`` take so many times as long from now on."""
        self.nodes[number].slowdown = times

    def send(self, client: int, attempt: Attempt, request: Request) -> None:
        """``request`` goes over the network to the node of ``attempt``."""
        number = self._numbers[attempt.node.address]
        self.attempts.append((self.clock.now, client, number))
        self.clock.after(self._delay(), self.nodes[number].take, request)

    def central(self) -> NodeRecord:
        """Where the scheduler that knows everything sends the next request."""
        return min(self.nodes, key=Node.expected).record

    def _balancer(self, number: int) -> Balancer:
        if self.plan.policy == CENTRAL:
            return _Central(self)
        random = Random(f"{self.plan.seed} policy {number}")
        return POLICIES[self.plan.policy](random)  # type: ignore[call-arg]

    def _news(self) -> None:
        if self.plan.news is not None:
            self.clock.after(self.plan.news, self._list)

    def _list(self) -> None:
        listed = (Mode.WELL, Mode.FAILING, Mode.HANGING)
        self.records = tuple(node.record for node in self.nodes if node.mode in listed)

    def _next(self) -> None:
        if self.clock.now < self.plan.seconds:
            self.clock.after(self.random.expovariate(self._rate), self._begin)

    def _begin(self) -> None:
        self._next()
        client = self.random.randrange(len(self.routers))
        _Calling(self, client, self.routers[client], self.clock.now + self.plan.timeout).go()

    def _delay(self) -> float:
        return self.plan.delay * (1 + self.random.random())

    def ended(self, begun_at: float, node: NodeRecord | None, attempts: int) -> None:
        number = None if node is None else self._numbers[node.address]
        self.calls.append(Call(begun_at, self.clock.now - begun_at, number, attempts))


class _Central:
    """A policy that asks the fleet itself; all clients' are one."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def pick(self, nodes: Sequence[NodeRecord], want: Want, now: float) -> NodeRecord:
        return self._fleet.central()

    def sent(self, attempt: Attempt) -> None:
        pass

    def done(
        self, attempt: Attempt, outcome: Outcome, report: LoadReport | None, now: float
    ) -> None:
        pass


@define(eq=False)
class _Calling:
    """One call: attempts, one after another, as ``smls.client`` makes them."""

    fleet: Fleet
    client: int
    router: Router
    deadline: float
    begun_at: float = 0.0
    tried: set[str] = field(factory=set)
    open: dict[Attempt, Request] = field(factory=dict)
    over: bool = False

    def go(self) -> None:
        clock = self.fleet.clock
        self.begun_at = clock.now
        self.router.call(clock.now)
        clock.after(self.deadline - clock.now, self._time_out)
        self._start()

    def _start(self) -> None:
        nodes = self.fleet.records
        attempt = (
            self.router.start(nodes, WANT, self.tried, self.fleet.clock.now) if nodes else None
        )
        if attempt is None:
            self._finish(None)
        else:
            self._send(attempt)

    def _send(self, attempt: Attempt) -> None:
        clock = self.fleet.clock
        others = len(self.fleet.records) > len(self.tried) + 1
        self.tried.add(attempt.node.address)
        request = Request(lambda *told: self._answer(attempt, *told))
        self.open[attempt] = request
        self.fleet.send(self.client, attempt, request)
        if others:
            clock.after((self.deadline - clock.now) / 2, self._give_up, attempt)
        self._watch(attempt)

    def _watch(self, attempt: Attempt) -> None:
        """Hedges ``attempt`` when its time has come."""
        now = self.fleet.clock.now
        if self.over or len(self.open) != 1 or attempt not in self.open:
            return
        seconds = self.router.hedge_in(attempt, now)
        if seconds is None:
            return
        if seconds > 0:
            self.fleet.clock.after(seconds + 1e-4, self._watch, attempt)
            return
        second = self.router.hedge(attempt, self.tried, now)
        if second is not None:
            self._send(second)

    def _answer(
        self,
        attempt: Attempt,
        outcome: Outcome,
        report: LoadReport | None,
        retry_after_seconds: float | None,
    ) -> None:
        if self.fleet.random.random() < self.fleet.plan.lost_reports:
            report = None
        self.fleet.clock.after(
            self.fleet._delay(), self._end, attempt, outcome, report, retry_after_seconds
        )

    def _give_up(self, attempt: Attempt) -> None:
        if attempt in self.open:
            self.open[attempt].cancelled = True
            self._end(attempt, Outcome.FAILED, None, None)

    def _end(
        self,
        attempt: Attempt,
        outcome: Outcome,
        report: LoadReport | None,
        retry_after_seconds: float | None,
    ) -> None:
        if self.open.pop(attempt, None) is None:
            return
        self.router.end(attempt, outcome, self.fleet.clock.now, report, retry_after_seconds)
        if outcome is Outcome.ANSWERED:
            self._finish(attempt.node)
        elif not self.open:
            if self.router.may_retry(outcome):
                self._start()
            else:
                self._finish(None)

    def _time_out(self) -> None:
        if not self.over:
            self._finish(None)

    def _finish(self, node: NodeRecord | None) -> None:
        self.over = True
        for attempt, request in self.open.items():
            request.cancelled = True
            self.router.end(attempt, Outcome.CANCELLED, self.fleet.clock.now)
        self.open.clear()
        self.fleet.ended(self.begun_at, node, len(self.tried))
