# SPDX-License-Identifier: MIT
"""The simulated fleet meets its targets; a known miss gets no worse."""

from __future__ import annotations

import pytest

from tests.fleet.fleet import Fleet
from tests.fleet.nodes import FAST, SLOW, Kind
from tests.fleet.scenarios import SCENARIOS, UNEVEN, Plan, failed


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_holds(name: str) -> None:
    worse = [finding for finding in SCENARIOS[name]() if not finding.holds]
    assert not worse


def test_the_same_seed_gives_the_same_run_and_another_one_does_not() -> None:
    def calls(seed: int) -> list[object]:
        return list(Fleet.run(Plan(UNEVEN, load=0.5, clients=5, seconds=2, seed=seed)).calls)

    assert calls(1) == calls(1) != calls(2)


@pytest.mark.parametrize("kind", [FAST, SLOW, Kind(a=0.01, b=0.005, size=8, runs=2)])
def test_a_node_alone_answers_as_fast_as_its_machine(kind: Kind) -> None:
    """At next to no load a call takes one batch of one, and two ways over the network."""
    fleet = Fleet.run(Plan((kind,), load=0.01, clients=1, seconds=60))
    assert failed(fleet.calls) == 0
    alone = [call.seconds for call in fleet.calls if call.seconds < kind.seconds(1) + 0.0021]
    assert len(alone) > 0.9 * len(fleet.calls)
    assert min(alone) >= kind.seconds(1) + 0.001


def test_a_node_at_its_capacity_answers_as_many_as_it_can() -> None:
    fleet = Fleet.run(Plan((FAST,), load=1.5, clients=2, seconds=10, timeout=60.0))
    answered = [call for call in fleet.calls if 2 <= call.begun_at + call.seconds < 10]
    assert len(answered) / 8 == pytest.approx(FAST.capacity, rel=0.03)
