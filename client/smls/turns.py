# SPDX-License-Identifier: MIT
"""Short turns of the reactor, so that an overloaded server answers whom it has let in.

Twisted's epoll reactor handles all connections that are ready before it does anything else. With
thousands of them a turn takes longer than a request's deadline, and what the turn has read can be
answered only after it. The kernel hands out ready connections in turn, so that with a few at a time
none is forgotten; the rest waits in its buffers.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

EVENTS = 64
"""Connections that are handled in a turn: some ten milliseconds."""


class FewEvents:
    """An epoll object that tells of ``EVENTS`` at most at once, and calls ``crowded`` where there
    were so many."""

    def __init__(self, epoll: Any, crowded: Callable[[], object]) -> None:
        self._epoll = epoll
        self._crowded = crowded

    def poll(self, timeout: float, most: int) -> Any:
        """As ``select.epoll.poll``."""
        found = self._epoll.poll(timeout, min(most, EVENTS))
        if len(found) == EVENTS:
            self._crowded()
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)


def shorten_turns(reactor: Any, crowded: Callable[[], object]) -> None:
    """Makes the turns of Twisted's epoll reactor short; others stay as they are."""
    poller = getattr(reactor, "_poller", None)
    if isinstance(poller, select.epoll):
        # Twisted has no setting for it.
        reactor._poller = FewEvents(poller, crowded)
