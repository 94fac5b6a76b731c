# SPDX-License-Identifier: MIT
"""Where each request of a client goes, and whether a failed one may go elsewhere.

All the thinking of balancing in one place, pure: the client and the simulator do what it says.
A request goes, in this order,

1. to a node of the client's subset that is sound and has room: by the policy, or by the key;
2. to any other node that is sound and has room;
3. to whoever is left, by the policy: nodes that just start, suspects, those that are ejected.

A node that a call has been to does not see that call again. A node that is at a limit which it
showed by pushing back gets nothing at all: it would push back once more.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from random import Random

from attrs import define

from smls.balancer import Attempt, Balancer, Foresight, Outcome, Want
from smls.budget import Budget, hedge_budget
from smls.ect import ExpectedCompletion
from smls.errors import BadRequest
from smls.health import Health
from smls.limit import Limits
from smls.policies import LeastInFlight, RoundRobin, TwoChoices, Weighted
from smls.subset import live, near, preferred
from smls.wire import LoadReport, NodeRecord

POLICIES: dict[str, Callable[[], Balancer]] = {
    "expected-completion": ExpectedCompletion,
    "round-robin": RoundRobin,
    "least-in-flight": LeastInFlight,
    "two-choices": TwoChoices,
    "weighted": Weighted,
}
"""The policies by name; the first is the default."""

KINDS = 64
"""Kinds of request for which the subset is kept."""


def policy(given: Balancer | str | None) -> Balancer:
    """The policy that ``given`` names or is; the default for ``None``.

    :raises BadRequest: where there is none of that name.
    """
    if given is None:
        return ExpectedCompletion()
    if not isinstance(given, str):
        return given
    if given not in POLICIES:
        raise BadRequest(f"balancer: got {given!r}, wanted one of {', '.join(POLICIES)}")
    return POLICIES[given]()


@define(eq=False)
class _Seen:
    """One list of nodes, and what was worked out from it."""

    nodes: Sequence[NodeRecord]
    live: Sequence[NodeRecord]
    near: Sequence[NodeRecord]
    good: Sequence[NodeRecord] = ()


class Router:
    """The routing of one client; ``hedge`` lets it send a late request a second time.

    :raises BadRequest: where hedging is wanted and ``balancer`` does not foresee answers.
    """

    def __init__(
        self, balancer: Balancer, *, random: Random | None = None, hedge: bool = False
    ) -> None:
        random = random or Random()
        if hedge and not isinstance(balancer, Foresight):
            raise BadRequest(
                "hedge: got a balancer that foresees no answers, wanted one with the methods "
                "'expected' and 'late_at', as expected-completion has"
            )
        self.budget = Budget()
        self._balancer = balancer
        self._foresight = balancer if hedge and isinstance(balancer, Foresight) else None
        self._hedges = hedge_budget()
        self._health = Health(random)
        self._limits = Limits()
        self._seed = random.getrandbits(64)
        self._seen: dict[Want, _Seen] = {}
        self._under_way: set[Attempt] = set()

    def call(self, now: float) -> None:
        """A call begins, which will be one attempt or more."""
        self.budget.call(now)
        self._hedges.call(now)

    def start(
        self,
        nodes: Sequence[NodeRecord],
        want: Want,
        tried: Container[str],
        now: float,
        key: str | None = None,
    ) -> Attempt | None:
        """The attempt to make now, with a node whose address is not in ``tried``; ``end`` ends
        it. ``None`` where nobody is left.

        ``nodes`` is the same object as long as the list is the same. Callers with the same
        ``key`` get the same node while it is sound.
        """
        seen = self._look(nodes, want)
        if not tried and key is None and self._health.spotless and self._limits.open:
            return self._send(self._balancer.pick(seen.near, want, now), nodes, want, now)
        for among in (seen.near if key is None else seen.live, nodes):
            good = [
                node
                for node in among
                if node.address not in tried
                and self._health.sound(node, now)
                and self._limits.has_room(node, want)
            ]
            if good and key is not None:
                return self._send(preferred(good, want, key), nodes, want, now)
            if good:
                if good != seen.good:
                    seen.good = good  # the same object as long as it is the same list
                return self._send(self._balancer.pick(seen.good, want, now), nodes, want, now)
        left = [
            node
            for node in nodes
            if node.address not in tried and not self._limits.full(node, want)
        ]
        return self._send(self._balancer.pick(left, want, now), nodes, want, now) if left else None

    def end(
        self,
        attempt: Attempt,
        outcome: Outcome,
        now: float,
        report: LoadReport | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        """``attempt`` has ended so; only the first end of an attempt counts."""
        if attempt not in self._under_way:
            return
        self._under_way.remove(attempt)
        # A node that tells its load is full for this request; one that does not takes nothing.
        rest = None if report is not None else retry_after_seconds or 1.0
        self._health.done(attempt, outcome, now, rest)
        self._limits.done(attempt, outcome, report)
        self._balancer.done(attempt, outcome, report, now)

    def may_retry(self, outcome: Outcome) -> bool:
        """Whether a call whose attempt ended so may make another one, which is paid for.

        What never reached a node costs nothing.
        """
        return outcome is Outcome.REFUSED or self.budget.take()

    def hedge_in(self, attempt: Attempt, now: float) -> float | None:
        """Seconds until ``attempt`` should be asked about again, 0 where it is worth a hedge
        now, ``None`` where it never will be.

        A late answer is expected to take as long again as it is late. So the moment has come when
        another node is expected to take less than that.
        """
        late_at = None if self._foresight is None else self._foresight.late_at(attempt)
        if late_at is None or attempt not in self._under_way:
            return None
        assert self._foresight is not None
        others = [
            seconds
            for node in self._look(attempt.nodes, attempt.want).near
            if node is not attempt.node
            and self._health.sound(node, now)
            and (seconds := self._foresight.expected(node, attempt.want, now)) is not None
        ]
        return max(0.0, late_at + min(others) - now) if others else None

    def hedge(
        self, attempt: Attempt, tried: Container[str], now: float, key: str | None = None
    ) -> Attempt | None:
        """A second attempt beside ``attempt``, if it can be paid for."""
        if self._hedges.level < 1 or self.budget.level < 1:
            return None
        second = self.start(attempt.nodes, attempt.want, tried, now, key)
        if second is not None:
            self._hedges.take()
            self.budget.take()
        return second

    def _look(self, nodes: Sequence[NodeRecord], want: Want) -> _Seen:
        seen = self._seen.get(want)
        if seen is None or seen.nodes is not nodes:
            if len(self._seen) >= KINDS:
                self._seen.clear()
            close = live(nodes)
            seen = self._seen[want] = _Seen(nodes, close, near(close, want, self._seed))
        return seen

    def _send(
        self, node: NodeRecord, nodes: Sequence[NodeRecord], want: Want, now: float
    ) -> Attempt:
        attempt = Attempt(node, want, now, nodes)
        self._under_way.add(attempt)
        self._health.sent(attempt)
        self._limits.sent(attempt)
        self._balancer.sent(attempt)
        return attempt
