# SPDX-License-Identifier: MIT
"""Short and few turns of the reactor, so that an overloaded server answers whom it has let in.

Twisted's epoll reactor handles all connections that are ready before it does anything else. With
thousands of them a turn takes longer than a request's deadline, and what the turn has read can be
answered only after it. The kernel hands out ready connections in turn, so that with a few at a time
none is forgotten; the rest waits in its buffers.

Where all that could be read would only wait, connections are looked at every ``REST_SECONDS``, and
meanwhile the reactor does what threads hand to it. It would be woken for each request otherwise, in
caches that the models have just used: several at once cost less, as a network's interrupts do that
are moderated.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

EVENTS = 64
"""Connections that are handled in a turn: some ten milliseconds."""

REST_SECONDS = 0.01
"""As long as such a turn: a request of a model that is so busy waits for much longer."""


class FewEvents:
    """An epoll object that tells of ``EVENTS`` at most at once, and calls ``crowded`` where there
    were so many. Where ``may_rest``, it tells between two looks of the ``waker`` alone."""

    def __init__(
        self,
        epoll: Any,
        waker: Any,
        seconds: Callable[[], float],
        crowded: Callable[[], object],
        may_rest: Callable[[], bool],
    ) -> None:
        self._epoll = epoll
        self._waker = select.poll()
        self._waker.register(waker, select.POLLIN)
        self._seconds = seconds
        self._crowded = crowded
        self._may_rest = may_rest
        self._looked = seconds() - REST_SECONDS

    def poll(self, timeout: float, most: int) -> Any:
        """As ``select.epoll.poll``."""
        rest = self._looked + REST_SECONDS - self._seconds()
        # Without a timeout there is something to do now.
        if rest > 0 and timeout != 0 and self._may_rest():
            woken = self._waker.poll((min(rest, timeout) if timeout > 0 else rest) * 1000)
            if woken:
                return woken
            timeout = 0
        self._looked = self._seconds()
        found = self._epoll.poll(timeout, min(most, EVENTS))
        if len(found) == EVENTS:
            self._crowded()
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)


def shorten_turns(
    reactor: Any, crowded: Callable[[], object], may_rest: Callable[[], bool]
) -> None:
    """Makes the turns of Twisted's epoll reactor short and few; others stay as they are."""
    poller = getattr(reactor, "_poller", None)
    if isinstance(poller, select.epoll):
        # Twisted has no setting for it.
        reactor._poller = FewEvents(poller, reactor.waker, reactor.seconds, crowded, may_rest)
