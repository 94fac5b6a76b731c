# SPDX-License-Identifier: MIT
"""The threads in which models run: a pool of their own, since the reactor's resolves names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

T = TypeVar("T")


class Worker(Protocol):
    """Does work elsewhere; the Deferred fires on the reactor's thread."""

    def do(self, work: Callable[[], T]) -> Deferred[T]: ...


class ThreadWorker:
    """``threads`` threads that take work in the order in which it comes."""

    def __init__(self, reactor: Any, threads: int, name: str = "infer") -> None:
        self._reactor = reactor
        self._pool = ThreadPool(threads, threads, name)

    def start(self) -> None:
        self._pool.start()

    def stop(self) -> None:
        """Waits for the threads to end what they are doing."""
        if self._pool.started:
            self._pool.stop()

    def do(self, work: Callable[[], T]) -> Deferred[T]:
        return deferToThreadPool(self._reactor, self._pool, work)


class SteppedWorker:
    """Does its work when it is told to, on the caller's thread: for tests."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], None]] = []

    def do(self, work: Callable[[], T]) -> Deferred[T]:
        done: Deferred[T] = Deferred()

        def step() -> None:
            maybeDeferred(work).chainDeferred(done)

        self._waiting.append(step)
        return done

    def step(self) -> bool:
        """Does the oldest piece of work; says whether there was one."""
        if not self._waiting:
            return False
        self._waiting.pop(0)()
        return True

    def run(self) -> None:
        """Does all the work there is."""
        while self.step():
            pass
