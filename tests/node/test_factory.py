# SPDX-License-Identifier: MIT
from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, rule

from smls_node.factory import Factory, stamp


class Thing:
    gone = 0

    def unload(self) -> None:
        self.gone += 1


def test_it_is_made_once_however_many_threads_ask_at_once() -> None:
    factory, made, begin = Factory(), [], threading.Barrier(8)
    begun, go_on = threading.Event(), threading.Event()

    def make() -> Thing:
        made.append(1)
        begun.set()
        assert go_on.wait(10)
        return Thing()

    def ask(_: int) -> Thing:
        begin.wait(10)
        return factory.get("key", make)

    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(ask, number) for number in range(8)]
        assert begun.wait(10)
        go_on.set()
        things = {id(each.result()) for each in asked}
    assert len(made) == len(things) == 1


def test_who_waits_fails_too_and_the_next_makes_it_anew() -> None:
    factory, begun, go_on = Factory(), threading.Event(), threading.Event()
    made = []

    def fail() -> Thing:
        made.append(1)
        begun.set()
        assert go_on.wait(10)
        raise OSError("no such model")

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(factory.get, "key", fail)
        assert begun.wait(10)
        second = threads.submit(factory.get, "key", fail)
        while factory._held["key"].holders < 2:
            pass
        go_on.set()
        for each in (first, second):
            with pytest.raises(OSError, match="no such model"):
                each.result(10)
    assert len(made) == 1
    assert factory.get("key", Thing).gone == 0


@settings(max_examples=50, stateful_step_count=20)
class Holders(RuleBasedStateMachine):
    """A thing lives exactly as long as somebody holds it."""

    def __init__(self) -> None:
        super().__init__()
        self.factory = Factory()
        self.held: list[Thing] = []
        self.made: list[Thing] = []

    @rule()
    def get(self) -> None:
        thing = self.factory.get("key", self.make)
        assert thing.gone == 0
        assert not self.held or thing is self.held[0]
        self.held.append(thing)

    @rule()
    def give_back(self) -> None:
        if self.held:
            thing = self.held.pop()
            self.factory.give_back("key")
            assert thing.gone == (not self.held)

    def make(self) -> Thing:
        assert not self.held
        self.made.append(Thing())
        return self.made[-1]

    def teardown(self) -> None:
        assert [each.gone for each in self.made] == [1] * (len(self.made) - bool(self.held)) + [
            0
        ] * bool(self.held)


TestHolders = Holders.TestCase


def test_a_stamp_tells_files_from_those_before_them(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("x = 1")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "deep.bin").write_bytes(b"1")
    (tmp_path / "__pycache__").mkdir()
    before = stamp(tmp_path), stamp(tmp_path, lambda name: name.endswith(".py"))
    (tmp_path / "__pycache__" / "code.pyc").touch()
    assert stamp(tmp_path) == before[0]
    (tmp_path / "sub" / "deep.bin").write_bytes(b"22")
    assert stamp(tmp_path) != before[0]
    assert stamp(tmp_path, lambda name: name.endswith(".py")) == before[1]
    (tmp_path / "code.py").write_text("x = 22")
    assert stamp(tmp_path, lambda name: name.endswith(".py")) != before[1]
    assert stamp(tmp_path / "code.py") != stamp(tmp_path / "sub" / "deep.bin")
