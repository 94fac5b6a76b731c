# SPDX-License-Identifier: MIT
"""Workers that are threads, for models in this process.

A thread takes its next batch by itself, without the reactor, which has to do with HTTP and may be
late. The answers of a batch wake the reactor once: handing Python's lock to and fro would cost
more than a run of a tiny network. Of the idle threads the one that ran last is woken: its core's
caches have the network.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from smls_node.batcher import Batch, Batcher
from smls_node.executing import Execute
from smls_node.worker import Job, Workers, tell


class WorkerThreads(Workers):
    """Threads about one queue."""

    wakes = True

    def __init__(
        self,
        batcher: Batcher,
        execute: Execute,
        seconds: Callable[[], float],
        reactor: Any,
        name: str = "model",
    ) -> None:
        super().__init__(batcher, seconds, reactor)
        self._execute = execute
        self._name = name
        self._idle: list[threading.Condition] = []
        """What the idle threads wait for, who ran last at the end."""
        self._ended = threading.Condition()
        self._stopping = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """See ``Workers``."""
        for number in range(self.batcher.workers):
            # A daemon, since a model that hangs must not keep the process from ending.
            thread = threading.Thread(target=self._work, name=f"{self._name}-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, seconds: float = 1.0) -> bool:
        """See ``Workers``; a thread whose model hangs is left behind."""
        with self._lock:
            self._stopping = True
            self._wake_idle(len(self._idle))
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(timeout=max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def give_way(self, seconds: float) -> None:
        """See ``Workers``: they want Python's lock, of which a thread that reads without pause
        leaves the others next to nothing. Until a batch has ended."""
        with self._ended:
            self._ended.wait(seconds)

    def step(self) -> bool:
        """Does on the caller's thread what a free worker would do now; says whether it did."""
        with self._lock:
            batch = self._next()
        if batch is not None:
            self._run(batch)
        return batch is not None

    def _wake(self, count: int) -> None:
        with self._lock:
            # Who is stopping waits for what arrives, and is done when there is no more.
            self._wake_idle(len(self._idle) if self._stopping else count)

    def _wake_idle(self, count: int) -> None:
        for _ in range(min(count, len(self._idle))):
            self._idle.pop().notify()

    def _work(self) -> None:
        ready = threading.Condition(self._lock)
        while True:
            with ready:
                batch = self._next()
                while batch is None:
                    if self._stopping and self._is_drained:
                        return
                    self._idle.append(ready)
                    if not ready.wait(self._delay()) and ready in self._idle:
                        self._idle.remove(ready)
                    batch = self._next()
            self._run(batch)

    def _next(self) -> Batch | None:
        batch, late = self._take()
        if late:
            self._reactor.callFromThread(tell, late)
        return batch

    def _run(self, batch: Batch) -> None:
        begun = self._seconds()
        works = [item.work.work for item in batch.items]
        done = self._execute(works, partial(self._begin, batch))
        jobs: list[Job] = self._end(batch, begun, done)
        self._reactor.callFromThread(tell, jobs)
        with self._ended:
            self._ended.notify_all()
