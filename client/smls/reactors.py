# SPDX-License-Identifier: MIT
"""A reactor for a thread of one's own. It is never installed, so the program's goes untouched."""

from __future__ import annotations

from typing import Any

from twisted.internet.posixbase import PosixReactorBase


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
