# SPDX-License-Identifier: MIT
from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from smls_node.settings import ModelSettings
from smls_node.versions import Edition, Policy, State, Versions, policy_from


def edition(name: str, version: int, stamp: int = 0) -> Edition:
    return Edition(ModelSettings(Path("g.pb"), name=name, version=str(version)), (stamp,))


MODELS = ("a", "b")

PILES = st.lists(
    st.builds(edition, st.sampled_from(MODELS), st.integers(1, 3), st.integers(0, 1)),
    max_size=4,
    unique_by=lambda each: (each.name, each.version),
)
"""What may be wanted at once: one edition a version."""


PATIENCE = 10.0


class Lives(RuleBasedStateMachine):
    """Anything may be wanted, and any load may fail, at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.versions = Versions()
        self.wanted: list[Edition] = []
        self.now = 0.0
        self.loading: dict[Edition, float] = {}
        self.given_up: set[Edition] = set()
        self.dropping: list[Edition] = []
        self.there: set[Edition] = set()

    @rule(pile=PILES)
    def want(self, pile: list[Edition]) -> None:
        self.wanted = pile
        self.versions.want(pile)

    @rule(seconds=st.floats(0, PATIENCE))
    def time_goes_by(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def load(self) -> None:
        found = self.versions.to_load(self.now, PATIENCE)
        if found is not None:
            assert all(self.now - since >= PATIENCE for since in self.loading.values())
            assert found in self.wanted
            assert found not in self.there
            assert found not in self.loading
            self.loading[found] = self.now

    @rule()
    def give_up(self) -> None:
        found = self.versions.to_give_up()
        if found is not None:
            assert found in self.loading
            assert found not in self.wanted
            assert found not in self.given_up
            self.given_up.add(found)

    @precondition(lambda self: self.loading)
    @rule(data=st.data(), works=st.booleans())
    def end_load(self, data: st.DataObject, works: bool) -> None:
        self.end(data.draw(st.sampled_from(list(self.loading))), works)

    def end(self, loading: Edition, works: bool) -> None:
        del self.loading[loading]
        if works and loading not in self.given_up:
            self.versions.loaded(loading)
            self.there.add(loading)
        else:
            self.versions.failed(loading, "broken")
        self.given_up.discard(loading)

    @rule()
    def drop(self) -> None:
        found = self.versions.to_drop()
        if found is not None:
            assert found not in self.wanted
            self.there.remove(found)
            self.dropping.append(found)
            wanted = [each for each in self.wanted if each.name == found.name]
            # Whoever asks for the model, or for the version if it is still to be there, finds it.
            assert not wanted or any(each in self.there for each in wanted)
            own = [each for each in wanted if each.version == found.version]
            assert all(each in self.there for each in own)

    @precondition(lambda self: self.dropping)
    @rule(data=st.data())
    def end_drop(self, data: st.DataObject) -> None:
        gone = data.draw(st.sampled_from(self.dropping))
        self.dropping.remove(gone)
        self.versions.dropped(gone)

    @invariant()
    def what_is_shown_is_so(self) -> None:
        states = [each.state for each in self.versions.standings]
        assert states.count(State.AVAILABLE) == len(self.there)
        assert states.count(State.UNLOADING) == len(self.dropping)
        assert states.count(State.LOADING) == len(self.loading)
        late = {each for each, since in self.loading.items() if self.now - since >= PATIENCE}
        assert set(self.versions.late(self.now, PATIENCE)) == late
        for each in self.versions.standings:
            assert bool(each.why) == (each.state is State.END)

    def teardown(self) -> None:
        """Left alone, it ends with all that is wanted there or failed, and with little else."""
        for _ in range(100):
            self.load()
            self.drop()
            self.give_up()
            for loading in list(self.loading):
                self.end(loading, works=True)
            for gone in list(self.dropping):
                self.dropping.remove(gone)
                self.versions.dropped(gone)
        assert self.versions.is_settled(self.now, PATIENCE)
        failed = {each for each in self.wanted if each not in self.there}
        standings = self.versions.standings
        assert len([each for each in standings if each.state is State.END]) == len(failed)
        for name in MODELS:
            wanted = {each for each in self.wanted if each.name == name}
            if not wanted & failed:
                assert {each for each in self.there if each.name == name} == wanted


TestLives = Lives.TestCase


def test_the_new_version_is_there_before_the_old_one_goes() -> None:
    versions, old, new = Versions(), edition("a", 1), edition("a", 2)
    versions.want([old])
    assert versions.to_load(0.0, PATIENCE) == old
    versions.loaded(old)
    versions.want([new])
    assert versions.to_drop() is None
    assert versions.to_load(0.0, PATIENCE) == new
    assert versions.to_drop() is None
    versions.loaded(new)
    assert versions.to_drop() == old
    assert not versions.is_settled(0.0, PATIENCE)
    versions.dropped(old)
    assert [(each.version, each.state) for each in versions.standings] == [("2", State.AVAILABLE)]


def test_what_hangs_holds_up_nothing_but_itself_and_can_be_given_up() -> None:
    versions, hanging, other = Versions(), edition("a", 1), edition("b", 1)
    versions.want([hanging, other])
    assert versions.to_load(100.0, PATIENCE) == hanging
    assert versions.to_load(109.9, PATIENCE) is None
    assert versions.late(109.9, PATIENCE) == ()
    assert versions.to_load(110.0, PATIENCE) == other
    assert versions.late(110.0, PATIENCE) == (hanging,)
    assert [each.since for each in versions.standings] == [100.0, 110.0]
    versions.loaded(other)
    assert versions.is_settled(110.0, PATIENCE)
    assert versions.to_give_up() is None
    versions.want([other])
    assert [versions.to_give_up(), versions.to_give_up()] == [hanging, None]
    # Wanted again before its end is known, it is loaded anew.
    versions.want([hanging, other])
    assert versions.to_load(120.0, PATIENCE) is None
    versions.failed(hanging, "killed")
    assert versions.to_load(121.0, PATIENCE) == hanging


def test_what_failed_is_tried_again_when_it_has_changed() -> None:
    versions, old, bad = Versions(), edition("a", 1), edition("a", 2)
    versions.want([old])
    versions.loaded(versions.to_load(0.0, PATIENCE) or old)
    versions.want([bad])
    versions.failed(versions.to_load(0.0, PATIENCE) or bad, "truncated")
    for _ in range(3):
        versions.want([bad])
        assert versions.to_load(0.0, PATIENCE) is versions.to_drop() is None
    assert [each.why for each in versions.standings] == ["", "truncated"]
    mended = edition("a", 2, stamp=1)
    versions.want([mended])
    assert versions.to_load(0.0, PATIENCE) == mended
    versions.loaded(mended)
    assert versions.to_drop() == old


@given(st.sets(st.integers(0, 50), max_size=10), st.integers(1, 12))
def test_the_latest_are_the_greatest_numbers(there: set[int], count: int) -> None:
    chosen = policy_from(f"latest:{count}").chosen(there)
    assert len(chosen) == min(count, len(there))
    assert all(other < min(chosen) for other in there - set(chosen))
    assert set(policy_from("all").chosen(there)) == there
    assert set(policy_from("specific:3,5").chosen(there)) == there & {3, 5}
    assert Policy().chosen(there) == tuple(sorted(there)[-1:])


@pytest.mark.parametrize("text", ["", "latest", "latest:0", "latest:-1", "specific:", "ALL", "1"])
def test_what_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        policy_from(text)
