# SPDX-License-Identifier: MIT
"""Short and few turns of the reactor, so that an overloaded server answers whom it has let in.

Twisted's epoll reactor handles all connections that are ready before it does anything else. With
thousands of them a turn takes longer than a request's deadline, and what the turn has read can be
answered only after it. The kernel hands out ready connections in turn, so that with a few at a time
none is forgotten; the rest waits in its buffers.

Where nothing of what could be read would be served soon, the reactor rests until something else
has ended. It would be woken for each request otherwise, in caches that the models have just used:
several at once cost less, as they do a network's interrupts that are moderated.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

EVENTS = 64
"""Connections that are handled in a turn: some ten milliseconds."""

REST_SECONDS = 0.005
"""The most that is rested at a time: less than a request of a busy model waits anyway."""


class FewEvents:
    """An epoll object that tells of ``EVENTS`` at most at once, and calls ``crowded`` where there
    were so many. Before it looks, it rests where ``may_rest``, which is told whether the last turn
    was crowded, until the ``waker`` is readable."""

    def __init__(
        self,
        epoll: Any,
        waker: Any,
        crowded: Callable[[], object],
        may_rest: Callable[[bool], bool],
    ) -> None:
        self._epoll = epoll
        self._waker = select.poll()
        self._waker.register(waker, select.POLLIN)
        self._crowded = crowded
        self._may_rest = may_rest
        self._is_crowded = False

    def poll(self, timeout: float, most: int) -> Any:
        """As ``select.epoll.poll``."""
        # Without a timeout there is something to do now.
        if timeout != 0 and self._may_rest(self._is_crowded):
            self._waker.poll((min(timeout, REST_SECONDS) if timeout > 0 else REST_SECONDS) * 1000)
            timeout = 0
        found = self._epoll.poll(timeout, min(most, EVENTS))
        self._is_crowded = len(found) == EVENTS
        if self._is_crowded:
            self._crowded()
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)


def shorten_turns(
    reactor: Any, crowded: Callable[[], object], may_rest: Callable[[bool], bool]
) -> None:
    """Makes the turns of Twisted's epoll reactor short and few; others stay as they are."""
    poller = getattr(reactor, "_poller", None)
    if isinstance(poller, select.epoll):
        # Twisted has no setting for it.
        reactor._poller = FewEvents(poller, reactor.waker, crowded, may_rest)
