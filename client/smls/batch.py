# SPDX-License-Identifier: MIT
"""Many calls at once, and what became of each, in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from itertools import islice
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import TypeVar

from smls.errors import SmlsError

Item = TypeVar("Item")
T = TypeVar("T")


def in_order(
    items: Iterable[Item], concurrency: int, submit: Callable[[Item], Future[T]]
) -> Iterator[tuple[Item, T | Exception]]:
    """Each item and the result or error of its call, as soon as all before it are known.

    ``concurrency`` calls are on their way at the same time; ``items`` are read in a thread.
    """
    room = Semaphore(concurrency)
    started: SimpleQueue[tuple[Item, Future[T]] | None] = SimpleQueue()

    def start(item: Item) -> Future[T]:
        try:
            return submit(item)
        except Exception as error:
            failed: Future[T] = Future()
            failed.set_exception(error)
            return failed

    def feed() -> None:
        try:
            for item in items:
                room.acquire()
                future = start(item)
                future.add_done_callback(lambda _: room.release())
                started.put((item, future))
        finally:
            started.put(None)

    Thread(target=feed, daemon=True).start()
    while (next_one := started.get()) is not None:
        item, future = next_one
        try:
            yield item, future.result()
        except (OSError, SmlsError) as error:
            yield item, error


def pieces(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items, ``size`` at a time.

    >>> list(pieces("abc", 2))
    [['a', 'b'], ['c']]
    """
    rest = iter(items)
    while piece := list(islice(rest, size)):
        yield piece
