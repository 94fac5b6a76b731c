# SPDX-License-Identifier: MIT
"""Reactors for what is tested without a server: one that has no turns, and one in a thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread

from smls.reactors import dispose, thread_reactor


class AtOnce:
    """Calls at once, whatever thread it is asked in; ``wakes`` counts what other threads ask."""

    def __init__(self) -> None:
        self.wakes = 0

    def callFromThread(self, call: Callable[..., object], *given: Any) -> None:
        self.wakes += 1
        call(*given)

    def callLater(self, delay: float, call: Callable[..., object], *given: Any) -> None:
        assert delay == 0
        call(*given)


@contextmanager
def turning() -> Iterator[Any]:
    """A reactor that runs in a thread."""
    reactor: Any = thread_reactor()
    thread = Thread(target=reactor.run, kwargs={"installSignalHandlers": False}, daemon=True)
    reactor.callWhenRunning(lambda: None)
    thread.start()
    try:
        yield reactor
    finally:
        reactor.callFromThread(reactor.stop)
        thread.join()
        dispose(reactor)


def awaited(reactor: Any, ask: Callable[[], Awaitable[Any]]) -> Any:
    """What ``ask`` comes to, on the thread of ``reactor``."""
    return blockingCallFromThread(reactor, lambda: Deferred.fromCoroutine(ask()))  # type: ignore[arg-type]
