# SPDX-License-Identifier: MIT
"""Workers of a model in a process of its own, which the reactor asks by itself.

No thread stands between: for a tiny network, waking one for the question and the reactor for the
answer, and handing Python's lock to and fro between them, would cost more than the run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from smls_node.batcher import Batch, Batcher
from smls_node.executingapart import ExecuteLater
from smls_node.worker import Workers, tell


class WorkersApart(Workers):
    """As many batches at once in the process as there are workers."""

    log = Logger()
    wakes = False

    def __init__(
        self,
        batcher: Batcher,
        execute: ExecuteLater,
        seconds: Callable[[], float],
        reactor: Any,
    ) -> None:
        super().__init__(batcher, seconds, reactor)
        self._execute = execute
        self._done = threading.Condition(self._lock)
        self._later: Any = None
        self._is_going = False

    def start(self) -> None:
        """See ``Workers``: there is nothing to start."""

    def stop(self, seconds: float = 1.0) -> bool:
        """See ``Workers``. In a thread, where there may be something to wait for."""
        with self._done:
            return self._done.wait_for(self._is_idle, seconds)

    def give_way(self, seconds: float) -> None:
        """See ``Workers``: takes what is answered before what else there is to read."""
        self._execute.look(seconds)

    def _wake(self, count: int) -> None:
        self._go_on()

    def _go_on(self) -> None:
        """Has the free workers take what there is. What ends at once is followed in the loop."""
        if self._is_going:
            return
        self._is_going = True
        try:
            while self.batcher.idle > 0:
                with self._lock:
                    batch, late = self._take()
                if batch is not None:
                    running = Deferred.fromCoroutine(self._run(batch))
                    running.addErrback(partial(self.log.failure, "a batch was lost"))
                tell(late)
                if batch is None:
                    break
        finally:
            self._is_going = False
        self._wait()
        with self._done:
            self._done.notify_all()

    async def _run(self, batch: Batch) -> None:
        begun = self._seconds()
        works = [item.work.work for item in batch.items]
        done = await self._execute(works, partial(self._begin, batch))
        jobs = self._end(batch, begun, done)
        # The process is not to wait while HTTP's answers are written.
        self._go_on()
        tell(jobs)

    def _wait(self) -> None:
        """Comes again when the next batch is ready by itself."""
        if self._later is not None and self._later.active():
            self._later.cancel()
        delay = self._delay() if self.batcher.idle > 0 else None
        self._later = None if delay is None else self._reactor.callLater(delay, self._go_on)

    def _is_idle(self) -> bool:
        return self._is_drained and not self.batcher.running
