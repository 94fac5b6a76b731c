# SPDX-License-Identifier: MIT
"""Picking by expected completion time; how well it does is for tests/fleet to say."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from smls.balancer import Attempt, Outcome
from smls.ect import STALE_SECONDS, ExpectedCompletion
from smls.wire import LoadReport, NodeRecord
from tests.client.nodes import WANT, attempt, fleet, node, report


def heard(*reports: LoadReport) -> tuple[ExpectedCompletion, tuple[NodeRecord, ...]]:
    """A policy that has just heard so of each of its nodes, and has nothing in flight."""
    balancer = ExpectedCompletion(Random(1))
    nodes = fleet(range(len(reports)))
    for each, said in zip(nodes, reports, strict=True):
        asked = attempt(each, now=-0.01)
        balancer.sent(asked)
        balancer.done(asked, Outcome.ANSWERED, said, 0.0)
    return balancer, nodes


def test_what_is_expected_follows_from_the_report() -> None:
    for said, now, seconds in (
        (report(), 0.0, 0.032),
        (report(queue=3, busy_ms=50), 0.0, 0.050 + 0.030 + 0.008),
        (report(queue=3, busy_ms=50), 0.02, 0.030 + 0.030 + 0.008),
        (report(queue=35, busy_ms=50), 0.0, 0.050 + 0.094 + 0.030 + 0.008),
        # After 60 ms the batch of 3 runs, and takes 36 ms from the 50th.
        (report(queue=3, busy_ms=50), 0.06, 0.026 + 0.032),
        (report(queue=3, busy_ms=50), 1.0, 0.032),
    ):
        balancer, nodes = heard(said)
        assert balancer.expected(nodes[0], WANT, now) == pytest.approx(seconds)


def test_what_was_sent_since_joins_the_batch() -> None:
    balancer, (only,) = heard(report(busy_ms=50))
    for mine in range(1, 40):
        balancer.sent(attempt(only))
        rounds, rest = divmod(mine, 32)
        seconds = 0.050 + rounds * 0.094 + 0.030 + 0.002 * (rest + 1)
        assert balancer.expected(only, WANT, 0.0) == pytest.approx(seconds)


@given(st.lists(st.integers(1, 32), max_size=20), st.integers(1, 99))
def test_a_request_of_several_rows_is_counted_as_so_many(before: list[int], rows: int) -> None:
    together, (node_,) = heard(report(busy_ms=50))
    apart, _ = heard(report(busy_ms=50))
    for each in before:
        together.sent(attempt(node_, rows=each))
        for _ in range(each):
            apart.sent(attempt(node_))
    one = apart.expected(node_, WANT, 0.0)
    assert together.expected(node_, WANT, 0.0) == one
    several = together.expected(node_, evolve(WANT, rows=rows), 0.0)
    assert several == pytest.approx(one + 0.002 * (rows - 1))
    last = attempt(node_, rows=rows)
    together.sent(last)
    assert together.late_at(last) > several  # type: ignore[operator]


def test_a_request_of_many_rows_goes_where_many_are_done_first() -> None:
    slow = evolve(report(), a_ms=20.0, b_ms=60.0, batch_max=4)
    balancer, nodes = heard(report(busy_ms=200), slow)
    for rows, name in ((1, "n1"), (32, "n0")):
        want = evolve(WANT, rows=rows)
        assert {balancer.pick(nodes, want, 0.0).id for _ in range(20)} == {name}


def test_what_is_more_than_a_batch_is_a_batch_by_itself() -> None:
    balancer, (only,) = heard(report(busy_ms=50))
    balancer.sent(attempt(only, rows=320))
    alone = 0.030 + 0.002 * 320
    wait = balancer.expected(only, WANT, 0.0) - 0.050  # type: ignore[operator]
    assert wait == pytest.approx(alone + 0.032, abs=0.094)


def test_inputs_of_a_model_that_takes_no_rows_are_one() -> None:
    balancer, (only,) = heard(evolve(report(busy_ms=50), b_ms=0.0, batch_max=1))
    want = evolve(WANT, rows=1000)
    assert balancer.expected(only, want, 0.0) == pytest.approx(0.080)
    balancer.sent(attempt(only, rows=1000))
    assert balancer.expected(only, want, 0.0) == pytest.approx(0.110)


def test_the_node_that_is_done_first_is_picked() -> None:
    balancer, nodes = heard(report(queue=20, busy_ms=90), report(queue=2, busy_ms=9), report(60))
    assert {balancer.pick(nodes, WANT, 0.0).id for _ in range(20)} == {"n1"}


def test_batches_fill_before_another_node_is_woken_to_wait() -> None:
    balancer, nodes = heard(report(busy_ms=10), report(busy_ms=60))
    for _ in range(20):
        picked = balancer.pick(nodes, WANT, 0.0)
        assert picked.id == "n0"
        balancer.sent(attempt(picked))


def test_a_late_node_is_avoided_and_found_again() -> None:
    balancer, nodes = heard(report(), report())
    slow = attempt(nodes[0])
    balancer.sent(slow)
    late_at = balancer.late_at(slow)
    assert late_at is not None
    assert {balancer.pick(nodes, WANT, late_at + 0.1).id for _ in range(20)} == {"n1"}
    balancer.done(slow, Outcome.ANSWERED, report(), 1.0)
    assert balancer.expected(nodes[0], WANT, 1.0) == pytest.approx(1.0)
    again = attempt(nodes[0], now=1.0)
    balancer.sent(again)
    balancer.done(again, Outcome.ANSWERED, report(), 1.04)
    # What it took beyond its work is taken for the way there, for as long as answers take more.
    assert balancer.expected(nodes[0], WANT, 1.04) == pytest.approx(0.06, abs=0.03)
    for _ in range(500):
        again = attempt(nodes[0], now=2.0)
        balancer.sent(again)
        balancer.done(again, Outcome.ANSWERED, report(), 2.032)
    assert balancer.expected(nodes[0], WANT, 2.032) == pytest.approx(0.032, abs=1e-3)


def test_each_request_in_flight_adds_what_the_way_there_takes() -> None:
    balancer, nodes = heard(report())
    for number in range(1, 200):
        now = float(number)
        sharing = [attempt(nodes[0], now=now) for _ in range(4)]
        for one in sharing:
            balancer.sent(one)
        for one in sharing:
            balancer.done(one, Outcome.ANSWERED, report(), now + 0.040 + 4 * 0.016)
    alone = balancer.expected(nodes[0], WANT, 300.0)
    assert alone == pytest.approx(0.032 + 0.02, abs=0.012)
    for _ in range(3):
        balancer.sent(attempt(nodes[0], now=300.0))
    shared = balancer.expected(nodes[0], WANT, 300.0)
    assert shared > alone + 3 * (0.002 + 0.010)


def test_who_was_late_with_much_on_the_way_may_be_asked_when_there_is_nothing() -> None:
    balancer, nodes = heard(report())
    sharing = [attempt(nodes[0], now=0.0) for _ in range(8)]
    for one in sharing:
        balancer.sent(one)
    for one in sharing:
        balancer.done(one, Outcome.ANSWERED, report(), 2.0)
    assert balancer.expected(nodes[0], WANT, 2.0) == pytest.approx(2.0 / 8, rel=0.1)


def test_giving_a_late_request_up_does_not_acquit_its_node() -> None:
    balancer, nodes = heard(report(), report())
    slow = attempt(nodes[0])
    balancer.sent(slow)
    balancer.done(slow, Outcome.CANCELLED, None, 0.5)
    assert balancer.expected(nodes[0], WANT, 0.5) == pytest.approx(0.5)


def test_without_reports_nodes_take_turns() -> None:
    balancer, nodes = ExpectedCompletion(Random(1)), fleet(range(3))
    for _ in range(4):
        turns = []
        for _ in nodes:
            sent = attempt(balancer.pick(nodes, WANT, 0.0))
            balancer.sent(sent)
            balancer.done(sent, Outcome.ANSWERED, None, 0.0)
            turns.append(sent.node.id)
        assert sorted(turns) == ["n0", "n1", "n2"]


def test_stale_nodes_are_asked_now_and_then() -> None:
    balancer, nodes = heard(report(), report(queue=5000, busy_ms=90))
    fresh = attempt(nodes[0], now=STALE_SECONDS)
    balancer.sent(fresh)
    balancer.done(fresh, Outcome.ANSWERED, report(), STALE_SECONDS + 0.03)
    picks = Counter(balancer.pick(nodes, WANT, STALE_SECONDS + 0.04).id for _ in range(2000))
    assert 0 < picks["n1"] < 100


def test_a_request_of_another_kind_is_another_matter() -> None:
    balancer, (only,) = heard(report(queue=500, busy_ms=90))
    other = Attempt(only, type(WANT)("birds"), 0.0)
    balancer.sent(other)
    balancer.done(other, Outcome.ANSWERED, report(), 0.03)
    assert balancer.expected(only, WANT, 0.03) > 1  # type: ignore[operator]
    assert balancer.expected(only, other.want, 0.03) == pytest.approx(0.032)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 4), st.sampled_from(Outcome), st.booleans(), st.sampled_from((1, 7, 99))
        )
    )
)
def test_nothing_in_flight_leaks(steps: list[tuple[int, Outcome, bool, int]]) -> None:
    balancer, nodes = heard(*[report()] * 5)
    now, open_ = 0.0, []
    for number, outcome, told, rows in steps:
        now += 0.01
        sent = attempt(nodes[number], now, rows=rows)
        balancer.sent(sent)
        open_.append((sent, outcome, report(2, 30) if told else None))
        if len(open_) > 3:
            ended, how, said = open_.pop(0)
            balancer.done(ended, how, said, now)
            balancer.done(ended, how, said, now)  # a second end changes nothing
    pool = balancer._pools[WANT]
    assert len(open_) == sum(load.in_flight for load in pool.loads.values())
    assert sum(len(load.promises) for load in pool.loads.values()) == len(open_)
    for ended, *_ in open_:
        balancer.done(ended, Outcome.CANCELLED, None, now)
    assert pool.in_flight == 0
    assert all(load.rows == load.in_flight == 0 for load in pool.loads.values())


def test_a_fleet_that_answers_unevenly_makes_patient() -> None:
    """What answers usually take beyond what is expected of them is not late."""

    def late_after(uneven: float) -> float:
        balancer, (only,) = heard(report())
        random, now = Random(2), 0.0
        for _ in range(300):
            asked = attempt(only, now=now)
            balancer.sent(asked)
            now += 0.032 + uneven * random.random()
            balancer.done(asked, Outcome.ANSWERED, report(), now)
        asked = attempt(only, now=now)
        balancer.sent(asked)
        late_at = balancer.late_at(asked)
        assert late_at is not None
        return late_at - now

    assert 0.032 < late_after(0.0) < 0.06
    assert 0.132 < late_after(0.1) < 0.25


def test_a_capacity_that_falls_tells_that_a_node_is_slow_before_its_answers_do() -> None:
    balancer = ExpectedCompletion(Random(1))
    nodes = fleet(range(2), capacity=340.0)
    for each in nodes:
        sent(balancer, each, 0.0, 0.032)
    assert {balancer.pick(nodes, WANT, 0.1).id for _ in range(50)} == {"n0", "n1"}
    slow = (node(0, 340.0 / 8), nodes[1])
    assert {balancer.pick(slow, WANT, 0.1).id for _ in range(50)} == {"n1"}
    assert balancer.expected(slow[0], WANT, 0.1) == pytest.approx(8 * 0.094)
    # Its answers say it too, and as long as they are late nothing changes.
    sent(balancer, slow[0], 0.1, 0.300)
    assert {balancer.pick(slow, WANT, 0.5).id for _ in range(50)} == {"n1"}


def test_a_capacity_that_is_back_brings_a_node_its_share_at_once() -> None:
    balancer = ExpectedCompletion(Random(1))
    slow, well = (tuple(node(n, c) for n, c in ((0, first), (1, 340.0))) for first in (42.5, 340.0))
    said = evolve(report(), a_ms=240.0, b_ms=16.0)
    sent(balancer, slow[0], 0.0, 0.256, said)
    sent(balancer, slow[1], 9.0, 0.032)
    assert {balancer.pick(slow, WANT, 9.1).id for _ in range(20)} == {"n1"}
    assert {balancer.pick(well, WANT, 9.1).id for _ in range(50)} == {"n0", "n1"}


def test_a_capacity_that_changes_by_little_or_comes_to_be_known_is_no_news() -> None:
    balancer, nodes = heard(report(), report())
    for first in (340.0, 300.0, 340.0, 0.0, 5.0):
        balancer.pick((node(0, first), nodes[1]), WANT, 0.0)
        assert balancer.expected(nodes[0], WANT, 0.0) == pytest.approx(0.032)


def sent(
    balancer: ExpectedCompletion,
    to: NodeRecord,
    now: float,
    seconds: float,
    said: LoadReport | None = None,
) -> None:
    """A request that is answered after ``seconds``."""
    asked = attempt(to, now)
    balancer.sent(asked)
    balancer.done(asked, Outcome.ANSWERED, said or report(), now + seconds)
