# SPDX-License-Identifier: MIT
"""The file, with a real thread pool and a clock that the tests move."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase

from smls import remembered
from smls.errors import BadRecord
from smls.merged import Told
from smls.remembered import SAVE_SECONDS, Remembered, from_json, to_json
from smls.wire import ModelRecord, NodeRecord, NodeState
from tests.client.fleet import ClockedReactor

A, B = "http://a:12480", "http://b:12480"
NODE = NodeRecord("n", "h:1", models=(ModelRecord("m", labels=("canary",), capacity=7.0),))
TOLD = {A: Told("x", 3, {"n": NODE}), B: Told("y", 0, {})}


def test_what_was_told_comes_back_as_it_was() -> None:
    assert from_json(json.loads(json.dumps(to_json(TOLD)))) == TOLD


@pytest.mark.parametrize(
    "value",
    [
        [],
        {A: []},
        {A: {"history": "x", "revision": 3}},
        {A: {"revision": 3, "nodes": []}},
        {A: {"history": "x\n", "revision": 3, "nodes": []}},
        {A: {"history": "x", "revision": 3, "nodes": [{"id": "n"}]}},
    ],
)
def test_what_is_no_list_is_refused(value: object) -> None:
    with pytest.raises(BadRecord):
        from_json(value)


class File(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.reactor = ClockedReactor(reactor)
        self.clock: Clock = self.reactor.clock
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name, "below", "it")
        self.events: list[Any] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def remembered(self, *registries: str) -> Remembered:
        return Remembered(self.reactor, self.folder, registries or (A, B))

    def warned(self) -> list[str]:
        return [
            event["reason"]
            for event in self.events
            if event.get("log_namespace") == "smls.remembered.Remembered"
        ]

    async def test_a_new_client_finds_what_the_last_one_kept(self) -> None:
        first = self.remembered()
        assert await first.load() == {}
        first.save(TOLD)
        await first.close()
        assert await self.remembered(B, A).load() == TOLD
        assert [file.name for file in self.folder.iterdir()] == [first.file.name]
        assert self.warned() == []

    async def test_each_set_of_registries_has_its_own_file(self) -> None:
        first = self.remembered(A)
        first.save(TOLD)
        await first.close()
        assert await self.remembered(A, B).load() == {}

    async def test_the_first_is_written_at_once_and_then_one_a_second(self) -> None:
        kept = self.remembered()
        written: list[int] = []
        write = kept._write

        def counted(told: Any) -> None:
            written.append(told[A].revision)
            write(told)

        kept._write = counted  # type: ignore[method-assign]
        for revision in range(10):
            kept.save({A: Told("x", revision, {})})
        await kept._saving
        assert written == [0]
        self.clock.advance(SAVE_SECONDS)
        for revision in range(10, 15):
            kept.save({A: Told("x", revision, {})})
        self.clock.advance(SAVE_SECONDS / 2)
        await kept.close()
        assert written == [0, 9, 14]
        assert self.clock.getDelayedCalls() == []

    async def test_nothing_new_is_not_written_again(self) -> None:
        kept = self.remembered()
        kept.save(TOLD)
        self.clock.advance(SAVE_SECONDS)
        assert self.clock.getDelayedCalls() == []
        await kept.close()

    async def test_a_bad_file_is_ignored_with_a_word(self) -> None:
        kept = self.remembered()
        self.folder.mkdir(parents=True)
        for number, content in enumerate((b"", b"{", b"\xff", b"[]", b"[" * 100_000)):
            kept.file.write_bytes(content)
            assert await kept.load() == {}
            assert len(self.warned()) == number + 1
        kept.save(TOLD)
        await kept.close()
        assert await kept.load() == TOLD

    async def test_a_folder_that_cannot_be_written_is_told_once(self) -> None:
        self.folder.parent.mkdir()
        self.folder.write_text("a file")
        kept = self.remembered()
        for _ in range(3):
            kept.save(TOLD)
            await kept._saving
            self.clock.advance(SAVE_SECONDS)
        await kept.close()
        assert len(self.warned()) == 1

    async def test_a_write_that_fails_half_way_leaves_what_was_there(self) -> None:
        kept = self.remembered()
        kept.save(TOLD)
        await kept._saving

        def broken(told: Any) -> Any:
            raise OSError("disk full")

        self.patch(remembered, "to_json", broken)
        self.clock.advance(SAVE_SECONDS)
        kept.save({A: Told("x", 4, {})})
        await kept.close()
        assert self.warned() == ["disk full"]
        assert await kept.load() == TOLD
        assert [file.name for file in self.folder.iterdir()] == [kept.file.name]


def test_a_suspect_stays_suspect() -> None:
    told = {A: Told("x", 1, {"n": NodeRecord("n", "h:1", state=NodeState.SUSPECT)})}
    assert from_json(json.loads(json.dumps(to_json(told)))) == told
