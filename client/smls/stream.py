# SPDX-License-Identifier: MIT
"""An HTTP answer that stays open: read as it comes, given up where it falls silent, opened again.

Nodes hold one at each registry, clients watch by one. Its server says something each 5 s, so that
silence means a network which went away without a word.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.iweb import IResponse

SILENCE_SECONDS = 15.0
"""Three heartbeats that did not come."""

FIRST_RETRY_SECONDS = 0.1

MOST_RETRY_SECONDS = 1.5
"""A registry that comes back has its nodes and clients within two seconds. While it is away that
costs a refused connection each second: about a millisecond of processor time."""

SETTLED_SECONDS = 1.0
"""A stream that ends sooner counts as a failed try: a server may take and drop each one."""


def retry_delay(failures: int, random: Random) -> float:
    """Seconds until the next try after so many failures: 0.05-0.1 at first, 0.75-1.5 at last.

    It doubles, and half of it is random ("equal jitter", M. Brooker, Exponential Backoff And
    Jitter, 2015).
    """
    longest = min(MOST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** min(failures - 1, 10))
    return longest * random.uniform(0.5, 1.0)


class Retries:
    """When one stream is to be opened again."""

    def __init__(self, random: Random) -> None:
        self.failures = 0
        self._random = random

    def ended(self, stood_seconds: float = 0.0) -> float:
        """Seconds until the next try, after a stream that stood so long: none if it had settled."""
        if stood_seconds >= SETTLED_SECONDS:
            self.failures = 0
            return 0.0
        self.failures += 1
        return retry_delay(self.failures, self._random)


def read_stream(
    response: IResponse,
    clock: IReactorTime,
    received: Callable[[bytes], object],
    first_seconds: float = SILENCE_SECONDS,
) -> Deferred[str]:
    """Hands each piece of the answer to ``received``; fires when it is over, saying why.

    It is given up where nothing comes within ``first_seconds``, or later for ``SILENCE_SECONDS``.
    Cancelling it closes the connection, and so does what ``received`` raises, with which the
    Deferred then fails.
    """
    reader = _Reader(clock, received, first_seconds)
    response.deliverBody(reader)
    return reader.over


def drop(response: IResponse) -> None:
    """Closes the connection of an answer that nobody wants to read."""
    response.deliverBody(_Dropped())


class _Reader(Protocol):
    def __init__(
        self, clock: IReactorTime, received: Callable[[bytes], object], first_seconds: float
    ) -> None:
        self.over: Deferred[str] = Deferred(lambda _: self._close())
        self._received = received
        self._silence = clock.callLater(first_seconds, self._fell_silent, first_seconds)
        self._clock = clock

    def dataReceived(self, data: bytes) -> None:
        if self.over.called:
            return
        if self._silence.active():
            self._silence.cancel()
        self._silence = self._clock.callLater(SILENCE_SECONDS, self._fell_silent, SILENCE_SECONDS)
        try:
            self._received(data)
        except Exception:
            self._close()
            self.over.errback()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.over.called:
            self._close()
            self.over.callback("its connection was closed")

    def _fell_silent(self, seconds: float) -> None:
        self._close()
        self.over.callback(f"said nothing for {seconds:g} s")

    def _close(self) -> None:
        if self._silence.active():
            self._silence.cancel()
        if self.transport is not None:
            self.transport.loseConnection()


class _Dropped(Protocol):
    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()
