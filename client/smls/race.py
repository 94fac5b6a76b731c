# SPDX-License-Identifier: MIT
"""The first of two requests that succeeds; the other one is cancelled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

T = TypeVar("T")


class Race(Generic[T]):
    """Runs ``first``, and beside it what ``second`` starts when ``wait`` says 0 seconds.

    ``result`` has what came first, or the last failure where all failed; one that is ``final``
    ends the race at once. Cancelling it cancels those that run.
    """

    def __init__(
        self,
        clock: IReactorTime,
        first: Deferred[T],
        *,
        wait: Callable[[], float | None],
        second: Callable[[], Deferred[T] | None],
        final: Callable[[BaseException], bool],
    ) -> None:
        self.result: Deferred[T] = Deferred(lambda _: self._end())
        self._clock = clock
        self._wait = wait
        self._second = second
        self._final = final
        self._running: list[Deferred[T]] = []
        self._timer: IDelayedCall | None = None
        self._over = False
        self._run(first)
        self._watch()

    def _run(self, request: Deferred[T]) -> None:
        self._running.append(request)
        request.addCallbacks(
            self._won, self._failed, callbackArgs=(request,), errbackArgs=(request,)
        )

    def _watch(self) -> None:
        self._timer = None
        seconds = None if self._over else self._wait()
        if seconds is None:
            return
        if seconds > 0:
            self._timer = self._clock.callLater(seconds, self._watch)
            return
        second = self._second()
        if second is not None:
            self._run(second)

    def _won(self, answer: T, request: Deferred[T]) -> None:
        self._running.remove(request)
        if not self._over:
            self._end()
            self.result.callback(answer)

    def _failed(self, failure: Failure, request: Deferred[T]) -> None:
        self._running.remove(request)
        final = failure.value is not None and self._final(failure.value)
        if not self._over and (final or not self._running):
            self._end()
            self.result.errback(failure)

    def _end(self) -> None:
        """What becomes of those that still run is of no interest from now on."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for request in list(self._running):
            request.cancel()
