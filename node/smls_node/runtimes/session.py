# SPDX-License-Identifier: MIT
"""TensorFlow's sessions, run with everything looked up beforehand.

Operators run in the caller's thread: several runs side by side fill the cores, and the hop to
TensorFlow's threads between operators would cost a tiny network half as much again. A run that has
the machine to itself leaves cores idle that way. Where a graph has branches, it is spread over
those threads, which are the session's own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

SLOW_SECONDS = 0.005
"""A run that takes less wins nothing that would be noticed."""

WINS = 1.15
"""So many times as fast, or a graph is taken to have no branches that are worth it."""

TRIALS = 3


class SessionCall:
    """Runs ``session`` from the tensors ``sources`` to ``targets``; several threads may call.

    ``make_callable`` looks everything up beforehand only for what is fed nothing, and what it is
    made of fixes the threads once. This is what ``Session.run`` itself calls.
    """

    def __init__(self, session: Any, sources: Sequence[str], targets: Sequence[str]) -> None:
        from tensorflow.python.client import pywrap_tf_session

        self._session = session
        self._run = pywrap_tf_session.TF_SessionRun_wrapper
        self._here, self._spread = _options(-1), _options(0)
        self._sources, self._targets = (
            [session.graph.get_tensor_by_name(name)._as_tf_output() for name in names]
            for names in (sources, targets)
        )
        self._neighbours: Neighbours | None = None

    def __call__(self, *given: Any) -> list[Any]:
        """The values of the targets."""
        if self._neighbours is None:
            return self._called(self._here, given)
        is_alone = self._neighbours.begin()
        try:
            return self._called(self._spread if is_alone else self._here, given)
        finally:
            self._neighbours.end()

    def spread_if_quicker(self, *given: Any) -> None:
        """Spreads runs that have the machine to themselves, where that is seen to win."""
        here, spread = (
            _seconds(partial(self._called, options, given))
            for options in (self._here, self._spread)
        )
        if wins(here, spread):
            self._neighbours = Neighbours()

    def _called(self, options: Any, given: Sequence[Any]) -> list[Any]:
        fed = dict(zip(self._sources, given, strict=True))
        found: list[Any] = self._run(self._session._session, options, fed, self._targets, [], None)
        return found


@cache
def _options(pool: int) -> Any:
    """Has operators run in the pool of that number, or in the caller's thread for -1."""
    from tensorflow.core.protobuf.config_pb2 import RunOptions
    from tensorflow.python.client import pywrap_tf_session

    told = RunOptions(inter_op_thread_pool=pool).SerializeToString()
    return pywrap_tf_session.TF_NewBufferFromString(told)


class Neighbours:
    """Says which runs have the machine to themselves, as far as can be told when they begin: no
    other is there, nor was one beside the last. Under load there are moments without any."""

    def __init__(self) -> None:
        self._running = 0
        self._crowded = False
        self._changing = threading.Lock()

    def begin(self) -> bool:
        """A run begins; whether it is alone."""
        with self._changing:
            is_alone = self._running == 0 and not self._crowded
            self._crowded = self._running > 0
            self._running += 1
        return is_alone

    def end(self) -> None:
        """A run has ended."""
        with self._changing:
            self._running -= 1


def wins(here: float, spread: float) -> bool:
    """Whether it is worth it to spread a run that takes so many seconds ``here``."""
    return here >= SLOW_SECONDS and spread * WINS < here


def _seconds(run: Callable[[], Any]) -> float:
    """The shortest of a few runs."""
    times = []
    for _ in range(TRIALS):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return min(times)
