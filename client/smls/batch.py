# SPDX-License-Identifier: MIT
"""Many images at once, and what became of each, in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Semaphore, Thread

from smls.errors import BadRequest, SmlsError
from smls.results import Classification
from smls.sources import Source


def classify_all(
    found: Iterable[Source],
    concurrency: int,
    submit: Callable[[str], Future[Classification]],
) -> Iterator[tuple[str, Classification | Exception]]:
    """Each image's name and its classification or error, as soon as all before it are known.

    ``concurrency`` images are on their way at the same time; ``found`` is read in a thread.
    """
    room = Semaphore(concurrency)
    started: SimpleQueue[tuple[str, Future[Classification]] | None] = SimpleQueue()

    def start(source: Source) -> Future[Classification]:
        try:
            if source.fault:
                raise BadRequest(source.fault)
            return submit(source.name)
        except Exception as error:
            failed: Future[Classification] = Future()
            failed.set_exception(error)
            return failed

    def feed() -> None:
        try:
            for source in found:
                room.acquire()
                future = start(source)
                future.add_done_callback(lambda _: room.release())
                started.put((source.name, future))
        finally:
            started.put(None)

    Thread(target=feed, daemon=True).start()
    while (item := started.get()) is not None:
        name, future = item
        try:
            yield name, future.result()
        except (OSError, SmlsError) as error:
            yield name, error
