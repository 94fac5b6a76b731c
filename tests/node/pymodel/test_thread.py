# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator

import pytest

from smls_node.pymodel.thread import ModelThread


@pytest.fixture
def thread() -> Iterator[ModelThread]:
    made = ModelThread("model").start()
    yield made
    assert made.stop()


def test_sync_and_async_are_called_in_the_one_thread(thread: ModelThread) -> None:
    async def here() -> int:
        await asyncio.sleep(0)
        return threading.get_ident()

    assert thread.call(here) == thread.call(threading.get_ident) != threading.get_ident()


def test_tasks_go_on_between_calls_and_are_cancelled_in_the_end() -> None:
    thread = ModelThread("model").start()
    seen: list[str] = []
    woken = threading.Event()

    async def background() -> None:
        woken.set()
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("cancelled")

    async def begin() -> None:
        seen.append("begun")
        begin.task = asyncio.create_task(background())  # type: ignore[attr-defined]

    thread.call(begin)
    assert woken.wait(10)
    assert thread.stop()
    assert seen == ["begun", "cancelled"]


def test_what_is_raised_is_raised_here_and_an_exit_ends_nothing(thread: ModelThread) -> None:
    with pytest.raises(ZeroDivisionError):
        thread.call(lambda: 1 // 0)
    with pytest.raises(RuntimeError, match=r"tried to exit: SystemExit\(3\)"):
        thread.call(sys.exit, 3)
    assert thread.call(lambda: 7) == 7


def test_what_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smls_node.pymodel.thread.END_SECONDS", 0.01)
    thread = ModelThread("model").start()
    release = threading.Event()
    with pytest.raises(TimeoutError):
        thread.call(release.wait, timeout_seconds=0.01)
    assert not thread.stop()
    release.set()
    monkeypatch.undo()
    assert thread.stop()
