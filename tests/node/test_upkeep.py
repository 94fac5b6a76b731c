# SPDX-License-Identifier: MIT
"""Models in real folders, kept up with threads that run at once and models of no library."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure

from smls.errors import BadRequest, ModelNotFound, ModelUnusable, Overloaded
from smls_node.batchtime import BatchTime
from smls_node.catalogue import Catalogue, Model
from smls_node.repository import Source
from smls_node.settings import Limits, ModelSettings
from smls_node.upkeep import (
    LEAVING_SECONDS,
    LOOK_SECONDS,
    PATIENCE_SECONDS,
    STARTING_PATIENCE_SECONDS,
    Upkeep,
)
from tests.node.memory import Brightness, model


class Inline(Clock):
    """A reactor whose threads do at once what they are given."""

    def getThreadPool(self) -> Inline:
        return self

    def callFromThread(self, call: Callable[..., Any], *given: Any) -> None:
        call(*given)

    def callInThreadWithCallback(
        self, on_result: Callable[..., Any], call: Callable[..., Any], *given: Any, **named: Any
    ) -> None:
        try:
            result = call(*given, **named)
        except Exception:
            on_result(False, Failure())
        else:
            on_result(True, result)


class Hanging(Inline):
    """Threads of which one may hang: what it should do is done when it is ``let_go``."""

    def __init__(self) -> None:
        super().__init__()
        self.hangs = False
        self.let_go: Callable[[], None] = lambda: None

    def callInThreadWithCallback(
        self, on_result: Callable[..., Any], call: Callable[..., Any], *given: Any, **named: Any
    ) -> None:
        do = partial(super().callInThreadWithCallback, on_result, call, *given, **named)
        if self.hangs:
            self.hangs, self.let_go = False, do
        else:
            do()


class Unloaded(Brightness):
    """A model that notes whether it was unloaded."""

    gone = False

    def unload(self) -> None:
        self.gone = True


class Kept:
    """A folder ``models`` that is kept up with, from the second look on."""

    def __init__(self, folder: Path) -> None:
        self.models = folder / "models"
        self.models.mkdir()
        self.reactor = Hanging()
        self.threads = Hanging()
        self.given_up: Future[None] = Future()
        self.catalogue = Catalogue()
        self.loads: list[tuple[str, str | None]] = []
        self.changes = 0
        self.during: Callable[[ModelSettings], None] = lambda settings: None
        self.upkeep = Upkeep(
            self.reactor,
            [Source(self.models)],
            ModelSettings(Path()),
            self.catalogue,
            load=self.load,
            serve=self.catalogue.add,
            changed=self.change,
            drain_seconds=0.01,
            threads=self.threads,
        )

    def load(self, settings: ModelSettings, served: Model | None, given_up: Future[None]) -> Model:
        self.given_up = given_up
        self.loads.append((settings.version, served and served.version))
        self.during(settings)
        named = model(str(settings.name), settings.version, Unloaded())
        return named.on(self.reactor, 1, Limits(), BatchTime())

    def change(self) -> None:
        self.changes += 1

    def put(self, version: str, name: str = "m") -> Path:
        folder = self.models / name / version
        folder.mkdir(parents=True)
        (folder / "g.pb").write_bytes(b"graph")
        (folder / "labels.txt").write_bytes(b"labels")
        return folder

    def start(self) -> list[None]:
        ready: list[None] = []
        self.upkeep.start().addCallback(ready.append)
        self.look()
        return ready

    def look(self, times: int = 1) -> None:
        self.reactor.pump([LOOK_SECONDS] * times)

    @property
    def states(self) -> dict[str, str]:
        return {each.version: each.state for each in self.catalogue.records()}


def break_down(settings: ModelSettings) -> None:
    raise ModelUnusable("broken")


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def test_it_is_ready_once_what_was_there_is_loaded(kept: Kept) -> None:
    kept.put("1")
    kept.put("2")
    ready: list[None] = []
    kept.upkeep.start().addCallback(ready.append)
    assert (ready, kept.loads) == ([], [])
    kept.look()
    assert (ready, kept.loads, kept.states) == ([None], [("2", None)], {"2": "AVAILABLE"})


def test_an_empty_folder_is_ready_too(kept: Kept) -> None:
    assert kept.start() == [None]


def test_a_new_version_is_loaded_before_the_old_one_goes(kept: Kept) -> None:
    kept.put("1")
    kept.start()
    old = kept.catalogue.find("m")
    changes = kept.changes
    kept.put("2")
    found: list[str] = []
    kept.during = lambda settings: found.append(kept.catalogue.find("m").version)
    kept.look(2)
    assert found == ["1"]
    assert kept.loads[-1] == ("2", "1")
    assert kept.catalogue.find("m").version == "2"
    assert old.runtime.gone  # type: ignore[attr-defined]
    assert kept.states == {"2": "AVAILABLE"}
    assert kept.changes > changes
    kept.look(5)
    assert len(kept.loads) == 2


def test_files_that_change_are_the_version_anew(kept: Kept) -> None:
    folder = kept.put("1")
    kept.start()
    old = kept.catalogue.find("m")
    (folder / "g.pb").write_bytes(b"another graph")
    kept.look(2)
    assert kept.catalogue.find("m") is not old
    assert old.runtime.gone  # type: ignore[attr-defined]
    assert kept.states == {"1": "AVAILABLE"}


def test_a_load_that_raises_anything_leaves_the_old_one(kept: Kept) -> None:
    kept.put("1")
    kept.start()
    folder = kept.put("2")

    def explode(settings: ModelSettings) -> None:
        raise MemoryError("too large")

    kept.during = explode
    with capturedLogs() as events:
        kept.look(5)
    assert kept.states == {"1": "AVAILABLE", "2": "END"}
    (absent,) = kept.catalogue.absent
    assert "MemoryError" in absent.why
    assert "too large" in absent.why
    assert [each["why"] for each in events if "why" in each] == [absent.why]
    kept.during = lambda settings: None
    (folder / "g.pb").write_bytes(b"smaller")
    kept.look(2)
    assert kept.states == {"2": "AVAILABLE"}


def test_a_model_that_hangs_is_left_behind_and_never_unloaded_under_its_run(kept: Kept) -> None:
    kept.put("1")
    kept.start()
    old = kept.catalogue.find("m")
    old.workers.stop = lambda seconds: False  # type: ignore[method-assign, assignment]
    kept.put("2")
    with capturedLogs() as events:
        kept.look(2)
    assert not old.runtime.gone  # type: ignore[attr-defined]
    assert any("is left behind" in each["log_format"] for each in events if "seconds" in each)
    assert kept.states == {"2": "AVAILABLE"}


def test_a_folder_that_cannot_be_looked_at_changes_nothing(kept: Kept) -> None:
    kept.put("1")
    kept.start()
    with capturedLogs() as events:
        kept.models.rename(kept.models.parent / "away")
        kept.look(5)
        assert kept.states == {"1": "AVAILABLE"}
        (kept.models.parent / "away").rename(kept.models)
        kept.look(2)
        assert [each["note"] for each in events if "note" in each] != []
        (kept.models / "m").rename(kept.models / ".m")
        kept.look(3)
    assert kept.states == {}
    assert len([each for each in events if "cannot be looked at" in str(each.get("note"))]) == 1


def test_labels_lead_to_versions(kept: Kept) -> None:
    kept.put("1")
    kept.put("2")
    settings = kept.models / "m" / "smls.toml"
    settings.write_text('versions = "all"\nversion_labels = {stable = 1, canary = 2, next = 3}')
    kept.start()
    find = kept.catalogue.find
    assert (find("m").version, find("m", label="stable").version) == ("2", "1")
    assert {each.version: each.labels for each in kept.catalogue.records()} == {
        "1": ("stable",),
        "2": ("canary",),
    }
    with pytest.raises(ModelNotFound, match="label: got 'beta', wanted one of stable, canary"):
        find("m", label="beta")
    with pytest.raises(ModelNotFound, match="version: got '3', wanted one of 1, 2"):
        find("m", label="next")
    with pytest.raises(BadRequest, match="wanted one of them"):
        find("m", "1", "stable")
    loads, changes = len(kept.loads), kept.changes
    settings.write_text('versions = "all"\nversion_labels = {stable = 2}')
    kept.look(2)
    assert find("m", label="stable").version == "2"
    assert (len(kept.loads), kept.changes) == (loads, changes + 1)


def test_who_has_stopped_looks_no_more(kept: Kept) -> None:
    kept.put("1")
    kept.start()
    kept.upkeep.stop()
    kept.put("2")
    kept.look(5)
    assert kept.states == {"1": "AVAILABLE"}
    assert not kept.upkeep.is_busy


def test_a_model_replaced_in_place_is_not_removed_by_the_old_ones_end() -> None:
    clock, catalogue = Clock(), Catalogue()
    first, second = (model("m").on(clock, 1, Limits(), BatchTime()) for _ in range(2))
    catalogue.add(first)
    catalogue.add(second)
    catalogue.remove(first)
    assert catalogue.find("m") is second
    catalogue.remove(evolve(second))
    assert catalogue.models == (second,)


def outcome(asked: Deferred[None]) -> object:
    """``None`` once it has fired, the error that it failed with, or ``...`` while it waits."""
    results: list[object] = [...]
    asked.addCallbacks(results.append, lambda failure: results.append(failure.value))
    return results[-1]


def test_a_model_is_unloaded_and_loaded_on_demand(kept: Kept) -> None:
    kept.put("1")
    kept.start()
    assert outcome(kept.upkeep.unload("m")) is None
    kept.look(5)
    assert kept.states == {"1": "END"}
    assert [each.why for each in kept.catalogue.absent] == ["it was unloaded on demand"]
    assert outcome(kept.upkeep.load("m")) is None
    assert kept.states == {"1": "AVAILABLE"}
    assert outcome(kept.upkeep.unload("m")) is None
    shutil.rmtree(kept.models / "m")
    kept.look(2)
    assert kept.states == {}


def test_what_failed_is_tried_again_on_demand(kept: Kept) -> None:
    kept.put("1")
    kept.during = break_down
    kept.start()
    kept.look(3)
    assert len(kept.loads) == 1
    asked = kept.upkeep.load("m")
    error = outcome(asked)
    assert isinstance(error, ModelUnusable)
    assert error.message == "model m: version 1: broken"
    kept.during = lambda settings: None
    assert outcome(kept.upkeep.load("m")) is None
    assert kept.states == {"1": "AVAILABLE"}


def test_a_folder_that_has_just_come_is_waited_for(kept: Kept) -> None:
    kept.start()
    kept.put("1")
    asked = kept.upkeep.load("m")
    assert not asked.called
    kept.look(2)
    assert asked.called
    assert kept.states == {"1": "AVAILABLE"}


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_a_model_that_no_folder_has_is_told_and_not_remembered(kept: Kept, verb: str) -> None:
    kept.start()
    asked = getattr(kept.upkeep, verb)("x")
    kept.look(2)
    assert isinstance(outcome(asked), ModelNotFound)
    kept.put("1", "x")
    kept.look(2)
    assert kept.states == {"1": "AVAILABLE"}


def test_who_waits_while_the_node_stops_is_told(kept: Kept) -> None:
    kept.start()
    asked = kept.upkeep.load("x")
    kept.upkeep.stop()
    assert isinstance(outcome(asked), Overloaded)


def test_a_load_that_hangs_is_told_of_and_holds_up_nobody_for_long(kept: Kept) -> None:
    kept.start()
    kept.threads.hangs = True
    kept.put("1", "hanging")
    kept.look(2)
    begun = kept.reactor.seconds()
    kept.put("2", "other")
    kept.look(2)
    assert kept.states == {"1": "LOADING", "2": "START"}
    (standing,) = [each for each in kept.catalogue.absent if each.name == "hanging"]
    assert standing.since == begun
    with capturedLogs() as events:
        kept.look(int(2 * PATIENCE_SECONDS))
    assert kept.states == {"1": "LOADING", "2": "AVAILABLE"}
    (told,) = [formatEvent(each) for each in events if "still loading" in each["log_format"]]
    assert told.startswith("model hanging version 1 is still loading after 30 s; others wait")


def test_a_load_that_hangs_is_ended_by_unloading_it(kept: Kept) -> None:
    kept.start()
    kept.threads.hangs = True
    kept.put("1")
    kept.look(2)
    loading, unloading = kept.upkeep.load("m"), kept.upkeep.unload("m")
    assert not unloading.called

    def fail(settings: ModelSettings) -> None:
        raise ModelUnusable("killed")

    kept.during = fail
    with capturedLogs() as events:
        kept.threads.let_go()
    assert kept.given_up.done()
    assert outcome(unloading) is None
    assert isinstance(outcome(loading), Overloaded)
    assert not any("cannot be served" in each["log_format"] for each in events)
    assert kept.states == {"1": "END"}
    kept.during = lambda settings: None
    assert outcome(kept.upkeep.load("m")) is None
    assert kept.states == {"1": "AVAILABLE"}


def test_a_load_that_nothing_ends_is_left_behind_and_what_comes_of_it_is_given_back(
    kept: Kept,
) -> None:
    kept.start()
    kept.threads.hangs = True
    kept.put("1")
    kept.look(2)
    unloading = kept.upkeep.unload("m")
    with capturedLogs() as events:
        kept.reactor.advance(LEAVING_SECONDS)
    assert outcome(unloading) is None
    assert any("is left behind with its thread" in each["log_format"] for each in events)
    assert outcome(kept.upkeep.load("m")) is None
    there = kept.catalogue.find("m")
    kept.threads.let_go()
    assert kept.catalogue.find("m") is there
    assert kept.states == {"1": "AVAILABLE"}


def test_a_load_that_hangs_at_the_start_keeps_the_node_from_being_ready_for_a_while(
    kept: Kept,
) -> None:
    kept.threads.hangs = True
    kept.put("1", "hanging")
    kept.put("2", "other")
    ready = kept.start()
    with capturedLogs() as events:
        kept.look(int(STARTING_PATIENCE_SECONDS) - 1)
    (told,) = [formatEvent(each) for each in events if "still loading" in each["log_format"]]
    assert "after 30 s; others wait for it no longer than 240 s" in told
    assert (ready, kept.states) == ([], {"1": "LOADING", "2": "START"})
    kept.look()
    assert (ready, kept.states) == ([None], {"1": "LOADING", "2": "AVAILABLE"})


def test_a_first_look_that_takes_long_does_not_make_an_empty_node_ready(kept: Kept) -> None:
    kept.put("1")
    kept.reactor.hangs = True
    ready: list[None] = []
    kept.upkeep.start().addCallback(ready.append)
    kept.look(5)
    assert (ready, kept.states) == ([], {})
    kept.reactor.let_go()
    kept.look(2)
    assert (ready, kept.states) == ([None], {"1": "AVAILABLE"})
