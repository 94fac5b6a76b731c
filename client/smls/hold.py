# SPDX-License-Identifier: MIT
"""The stream that a node holds open at a registry: where its process dies, it closes."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from smls.errors import SmlsError
from smls.stream import Retries, drop, read_stream

OPEN_SECONDS = 5.0
"""How long a registry may take for the beginning of the stream: half the usual TTL."""


class Hold:
    """One stream at a time at the registry ``endpoint``.

    ``over(seconds)`` is called when it ends, or could not be had, with the seconds after which it
    is to be tried again; never after ``let_go``. The first failure is logged, and those between it
    and the next success are not.
    """

    _log = Logger()

    def __init__(
        self,
        http: Any,
        clock: IReactorTime,
        random: Random,
        endpoint: str,
        over: Callable[[float], object],
    ) -> None:
        self._http = http
        self._clock = clock
        self._retries = Retries(random)
        self._endpoint = endpoint
        self._over = over
        self._stream: Deferred[Any] | None = None
        self._failing = False
        self._done = False

    def keep(self, url: str) -> None:
        """Opens the stream at ``url`` where none is open."""
        if self._stream is None and not self._done:
            opened_at = self._clock.seconds()
            self._stream = Deferred.fromCoroutine(self._hold(url))
            self._stream.addBoth(self._ended, opened_at)

    def let_go(self) -> None:
        """Closes the stream for good."""
        self._done = True
        if self._stream is not None:
            self._stream.cancel()

    async def _hold(self, url: str) -> str:
        opening: Deferred[Any] = self._http.request("GET", url, unbuffered=True)
        response = await opening.addTimeout(OPEN_SECONDS, self._clock)
        if response.code != 200:
            drop(response)
            raise SmlsError(f"it answered {response.code}, wanted a stream that stays open")
        self._failing = False
        return await read_stream(response, self._clock, lambda piece: None)

    def _ended(self, result: str | Failure, opened_at: float) -> None:
        self._stream = None
        if self._done:
            return
        stood = 0.0
        if not isinstance(result, Failure):
            stood = self._clock.seconds() - opened_at
        elif not self._failing:
            self._failing = True
            self._log.warn(
                "registry {endpoint} does not hold the lease, which would outlive this process "
                "for its TTL: {reason}; it is tried again and again",
                endpoint=self._endpoint,
                reason=str(result.value) or type(result.value).__name__,
            )
        self._over(self._retries.ended(stood))
