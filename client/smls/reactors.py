# SPDX-License-Identifier: MIT
"""Reactors that are never installed, so that a program's own reactor or loop goes untouched."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from threading import Thread
from typing import Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.posixbase import PosixReactorBase
from twisted.python.threadpool import ThreadPool


def thread_reactor() -> PosixReactorBase:
    """A reactor to run in a thread of one's own, without signal handlers.

    ``dispose`` it after its ``run`` has returned.
    """
    kind: type[PosixReactorBase]
    try:
        from twisted.internet.epollreactor import EPollReactor as kind
    except ImportError:
        from twisted.internet.selectreactor import SelectReactor as kind
    reactor = kind()
    # Twisted keeps one number for the thread of the one reactor that it expects.
    reactor._registerAsIOThread = False
    return reactor


def dispose(reactor: Any) -> None:
    """Closes the files that a reactor keeps open after it has stopped."""
    # As Twisted's own tests of reactors do (``ReactorBuilder.unbuildReactor``).
    for reader in list(reactor._internalReaders):
        reactor.removeReader(reader)
        reader.connectionLost(None)
    poller = getattr(reactor, "_poller", None)
    if poller is not None:
        poller.close()


class LoopReactor(AsyncioSelectorReactor):
    """A reactor on an asyncio loop that runs already, and that goes on after the reactor stops."""

    _registerAsIOThread = False

    def __init__(self, loop: AbstractEventLoop) -> None:
        super().__init__(loop)
        self.startRunning(installSignalHandlers=False)

    def installWaker(self) -> None:
        """Nothing: threads wake the loop by its own means."""

    def getThreadPool(self) -> ThreadPool:
        pool = super().getThreadPool()
        # A client that was never closed does not hold the interpreter back.
        pool.threadFactory = _DaemonThread
        return pool

    def crash(self) -> None:
        PosixReactorBase.crash(self)  # without stopping the loop, which is not ours

    def finish(self) -> None:
        """Closes what is open on this reactor, and its threads."""
        self.fireSystemEvent("shutdown")


class _DaemonThread(Thread):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named, daemon=True)
