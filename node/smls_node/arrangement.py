# SPDX-License-Identifier: MIT
"""How a model is run on a box: operator threads, runs at once, batch sizes. Pure.

On a CPU several single-threaded runs side by side often beat one run that shares all cores, and
on an accelerator one run with a large batch does; which of them holds for a model is measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf

from attrs import frozen

BATCHES = (1, 8, 32)
"""The batch sizes that are tried: alone, a usual one, and one that shows what size can win; where
the next one would take long, twice the last one instead."""

PAYS = 1.1
"""A batch size that gives less than so many times the throughput of a smaller one is not worth
its latency, nor its memory: TensorFlow keeps buffers for each size that it meets."""

LONG_SECONDS = 0.25
"""Beside a batch that takes longer, what it costs whatever its size is nothing: none that is larger
is tried, nor run."""

BATCH_SECONDS = 0.0003
"""What a batch costs the node beside its run: tiny networks win by batches even where their runs
do not."""

QUICK = 2000.0
"""Images a second from which HTTP costs more than the model: about as many requests does a core
answer. Each time that Python's lock goes from one to the other costs both."""

SPREAD = 0.88
"""The part of their throughput that runs whose operators are spread over threads keep where images
are decoded beside them: the threads of an operator wait for the last one. InceptionV3's single-
threaded runs lost nothing, two spread ones 0.12, and a lone one a quarter."""

AHEAD = 1.1
"""Who is so many times as good as all others is so in another turn as well, on a machine that was
as fast for all of them."""

AS_GOOD = 0.97
"""Within so much of the best throughput the arrangement with the faster single run is taken, and
within so much of that the one with the better throughput: they are not known to differ."""


@frozen
class Measured:
    """What one arrangement reached: ``seconds`` a batch of each size while ``runs`` run at once,
    and ``alone`` for a batch of one with nothing beside it."""

    operator_threads: int
    runs: int
    seconds: dict[int, float]
    alone: float

    @property
    def images_per_second(self) -> float:
        """The throughput at the best batch size."""
        return _throughput(self.runs, self.seconds.items())

    @property
    def served_per_second(self) -> float:
        """What is left of it where images are decoded beside the runs."""
        return self.images_per_second * (1.0 if self.operator_threads == 1 else SPREAD)


@frozen
class Arrangement:
    """How a model is run. ``operator_threads`` 0 leaves it to the library.

    ``anchors`` are pairs of a batch's size and its seconds; ``why`` says how this was found.
    """

    operator_threads: int
    runs: int
    workers: int
    anchors: tuple[tuple[int, float], ...] = ()
    why: str = ""

    @property
    def images_per_second(self) -> float:
        """The throughput at the best batch size, 0 where nothing was measured."""
        return _throughput(self.runs, self.anchors)

    @property
    def is_quick(self) -> bool:
        """Whether it was seen to cost less than HTTP does."""
        return self.images_per_second >= QUICK

    @property
    def largest_batch(self) -> int | None:
        """The batch size above which nothing is won, where that was seen; else ``None``."""
        rates = [(size, _rate(size, seconds)) for size, seconds in self.anchors]
        for index, (size, rate) in enumerate(rates[:-1]):
            if all(larger < rate * PAYS for _, larger in rates[index + 1 :]):
                return size
        size, seconds = self.anchors[-1] if self.anchors else (0, 0.0)
        return size if seconds > LONG_SECONDS else None


def candidates(cores: int, accelerators: int) -> list[tuple[int, int]]:
    """The pairs of operator threads and runs at once that are worth a try."""
    if accelerators:
        return [(0, accelerators), (0, 2 * accelerators)]
    if cores == 1:
        return [(1, 1)]
    pairs = [(1, cores), (cores, 1), (cores, 2)]
    if cores >= 8:
        pairs.append((cores // 4, 4))
    return pairs


def next_batch(seconds: Mapping[int, float]) -> int | None:
    """The size to try after batches of these, which took so many ``seconds``; ``None`` where a
    larger one wins nothing."""
    if not seconds:
        return BATCHES[0]
    *smaller, last = sorted(seconds)
    best = max((_rate(size, seconds[size]) for size in smaller), default=0.0)
    larger = [size for size in BATCHES if size > last]
    if _rate(last, seconds[last]) < best * PAYS or seconds[last] > LONG_SECONDS or not larger:
        return None
    takes_long = larger[0] * seconds[last] / last > LONG_SECONDS
    return min(2 * last, larger[0]) if takes_long else larger[0]


def best_of(measured: Iterable[Measured]) -> list[Measured]:
    """For each arrangement the shortest seconds of all times that it was measured: what else a
    machine does can only make a run slower."""
    found: dict[tuple[int, int], Measured] = {}
    for each in measured:
        way = each.operator_threads, each.runs
        known = found.get(way, each)
        seconds = {
            size: min(known.seconds.get(size, inf), each.seconds.get(size, inf))
            for size in sorted({*known.seconds, *each.seconds})
        }
        found[way] = Measured(*way, seconds, min(known.alone, each.alone))
    return list(found.values())


def is_settled(measured: Iterable[Measured], yardsticks: Sequence[float]) -> bool:
    """Whether measuring once more would choose no other arrangement: one is further ahead of all
    others than the machine's pace explains. ``yardsticks`` are the seconds of one and the same
    work, before and after each of them was measured."""
    rates = sorted(each.served_per_second for each in measured)
    margin = AHEAD * max(yardsticks) / min(yardsticks)
    return bool(rates) and all(rates[-1] >= other * margin for other in rates[:-1])


def choose(measured: Iterable[Measured], cores: int) -> Arrangement:
    """The arrangement with the best throughput; of those as good, that with the fastest run; and
    of those as fast, that with the better throughput again."""
    results = list(measured)
    best = max(result.served_per_second for result in results)
    good = [result for result in results if result.served_per_second >= best * AS_GOOD]
    fastest = min(result.alone for result in good)
    fast = [result for result in good if result.alone * AS_GOOD <= fastest]
    chosen = max(fast, key=lambda result: result.served_per_second)
    return Arrangement(
        operator_threads=chosen.operator_threads,
        runs=chosen.runs,
        workers=workers_for(chosen.runs, cores),
        anchors=tuple(sorted(chosen.seconds.items())),
        why=f"measured, images a second: {_table(results)}",
    )


def workers_for(runs: int, cores: int) -> int:
    """Threads for so many runs at once: more than these where cores are left to decode with."""
    return runs if runs >= cores else runs + max(1, min(cores, 2 * runs) - runs)


def _rate(size: int, seconds: float) -> float:
    """Rows a second that one worker of a node gets done in such batches."""
    return size / (seconds + BATCH_SECONDS)


def _throughput(runs: int, measured: Iterable[tuple[int, float]]) -> float:
    return max((runs * size / seconds for size, seconds in measured), default=0.0)


def _table(results: Sequence[Measured]) -> str:
    return ", ".join(
        f"{result.runs} runs of {result.operator_threads or 'all'} threads "
        f"{result.images_per_second:.4g}"
        for result in results
    )
