# SPDX-License-Identifier: MIT
"""Finds how a model runs best on this box, once, and keeps the finding on disk.

TensorFlow's operator threads belong to the process, and its first session fixes them. So one
short-lived child imports TensorFlow and forks for each number of them; a fork makes its session,
measures, and is gone. Where that does not settle it, they have another turn: the machine may be
faster now than in a second.
``python -m smls_node.tuning`` is that child.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from attrs import asdict
from twisted.logger import Logger

from smls_node import machine
from smls_node.arrangement import (
    Arrangement,
    Measured,
    best_of,
    candidates,
    choose,
    is_settled,
    next_batch,
    workers_for,
)
from smls_node.runtimes import GraphFiles, Runtime, tensorflow
from smls_node.settings import Device
from smls_node.signature import Signature

CHILD_SECONDS = 120.0
"""A child that takes longer is given up, and the model is run as most models run best."""

WINDOWS, WINDOW_SECONDS = 2, 0.1
"""Each batch size is run for so many times so long, and the best of them counts: what else the
machine does can only make a run slower. A run that takes longer than all of them is made once."""

TURNS, TURNS_SECONDS = 2, 14.0
"""How often each candidate has its turn at most, where that takes no more than so long: a large
network's runs are long enough to even out what else the machine does."""

YARDSTICK = bytes(2**20)
"""To hash it, on all cores, is work that takes as long as the machine is fast."""

log = Logger()


def arrangement_for(
    files: GraphFiles, folder: Path, meanwhile: Callable[[], object] = lambda: None
) -> Arrangement:
    """The finding in ``folder`` for this graph on this machine; measured now if there is none.

    What is to be done ``meanwhile`` is done while the process that measures imports TensorFlow.
    Where measuring fails, one single-threaded run a core, and a line in the log. Blocks, and
    waits for another process that is measuring.
    """
    finding = place_of(files, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Two nodes that measure at the same time would measure each other.
        with finding.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = _read(finding)
            if known is not None:
                return known
            found = choose(_measured_in_child(files, meanwhile), machine.cores())
            keep(found, finding)
            return found
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        log.warn("{graph}: could not be measured: {error}", graph=str(files.graph), error=error)
        return usual(machine.cores())


def known(files: GraphFiles, folder: Path) -> Arrangement | None:
    """The finding in ``folder`` for this graph on this machine, if there is one."""
    return _read(place_of(files, folder))


def usual(cores: int) -> Arrangement:
    """One single-threaded run a core, which most models on CPUs run best with."""
    return Arrangement(1, cores, workers_for(cores, cores), why="not measured")


def told(operator_threads: int, runs: int, cores: int) -> Arrangement:
    """What the operator asked for."""
    workers = workers_for(runs, cores)
    return Arrangement(operator_threads, runs, workers, why="as told")


def _measured_in_child(files: GraphFiles, meanwhile: Callable[[], object]) -> list[Measured]:
    settings = {**asdict(files), "graph": str(files.graph)}
    child = subprocess.Popen(
        [sys.executable, "-m", "smls_node.tuning"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with child:
        try:
            meanwhile()
            # It measures nothing before it has them.
            lines, told = child.communicate(json.dumps(settings), CHILD_SECONDS)
        except BaseException:
            child.kill()
            raise
    measured = _measured_from(lines)
    if not measured:
        raise ValueError(f"nothing was measured; {told.strip()[-500:]}")
    return best_of(measured)


def _measured_from(lines: str) -> list[Measured]:
    measured = []
    for line in lines.splitlines():
        if line.startswith("{"):
            fields = json.loads(line)
            fields["seconds"] = {int(size): value for size, value in fields["seconds"].items()}
            measured.append(Measured(**fields))
    return measured


def place_of(files: GraphFiles, folder: Path) -> Path:
    """The file in ``folder`` with what was found for this graph on this machine."""
    return folder / f"{machine.file_hash(files.graph)}-{machine.fingerprint('tensorflow')}.json"


def _read(finding: Path) -> Arrangement | None:
    try:
        fields = json.loads(finding.read_text())
        fields["anchors"] = tuple((int(size), float(value)) for size, value in fields["anchors"])
        return Arrangement(**fields)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def keep(found: Arrangement, finding: Path) -> None:
    """Writes what was found, for later starts."""
    machine.write_whole(lambda: [json.dumps(asdict(found)).encode()], finding)


def _child() -> None:
    """Measures the candidates in forks, and prints a line of JSON for each."""
    machine.end_with_parent()
    tensorflow.preload()
    settings = json.loads(sys.stdin.read())
    device = Device(**settings["device"])
    # Neither mean nor std are fed here, and JSON has no tuples for them.
    fed = {"graph": Path(settings["graph"]), "device": device, "mean": 0.0, "std": 255.0}
    files = GraphFiles(**{**settings, **fed})
    # Asking for GPUs opens them, and an opened one does not survive a fork.
    gpus = int(_in_fork(lambda: str(tensorflow.accelerators())))
    begun = time.monotonic()
    measured: list[Measured] = []
    yardsticks = [_yardstick()]
    for turn in range(TURNS):
        # One after the other, and anew in each turn: side by side they would take the memory of
        # all of them, and of a GPU one may take all there is.
        for threads, ways in groupby(candidates(machine.cores(), gpus), itemgetter(0)):
            runs = [way[1] for way in ways]
            lines = _in_fork(partial(_measure, files, threads, runs))
            print(lines, flush=True)
            measured += _measured_from(lines)
            yardsticks.append(_yardstick())
        if is_settled(best_of(measured), yardsticks):
            break
        if (time.monotonic() - begun) * (turn + 2) / (turn + 1) > TURNS_SECONDS:
            break


def _in_fork(work: Callable[[], str]) -> str:
    """What ``work`` gives in a fork of this process; empty where it fails there."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            machine.end_with_parent()
            os.write(writing, work().encode())
        except BaseException:
            traceback.print_exc()
        finally:
            # The session's threads would keep a usual exit waiting.
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    os.wait()
    return text


def _measure(files: GraphFiles, threads: int, runs: Sequence[int]) -> str:
    """A line of JSON for each number of runs at once."""
    model = tensorflow.load(files, operator_threads=threads, runs=max(runs))
    alone = seconds_of(model, 1, 1)
    measured = (Measured(threads, each, sizes_of(model, each), alone) for each in runs)
    return "\n".join(json.dumps(asdict(each)) for each in measured)


def sizes_of(model: Runtime, runs: int) -> dict[int, float]:
    """Seconds of the batches of each size that is worth a try, ``runs`` at once."""
    seconds: dict[int, float] = {}
    size = next_batch(seconds)
    while size is not None:
        seconds[size] = seconds_of(model, size, runs)
        size = next_batch(seconds) if _first(model).batches else None
    return seconds


def seconds_of(model: Runtime, size: int, callers: int) -> float:
    """Seconds that a batch of ``size`` takes while ``callers`` threads run one each."""
    name = next(iter(model.signatures))
    batch = model.example
    if size > 1:
        batch = {each: np.concatenate([array] * size) for each, array in model.example.items()}
    return _seconds(lambda: model.infer(batch, name, {}), callers)


def _yardstick() -> float:
    return _seconds(lambda: hashlib.sha256(YARDSTICK).digest(), machine.cores())


def _first(model: Runtime) -> Signature:
    return next(iter(model.signatures.values()))


def _seconds(run: Callable[[], Any], callers: int) -> float:
    """Seconds a run while ``callers`` threads run it side by side, after one run each."""
    with ThreadPoolExecutor(callers) as threads:
        _window(run, callers, threads, 0.0)
        best, spent = float("inf"), 0.0
        while spent < WINDOWS * WINDOW_SECONDS:
            each, took = _window(run, callers, threads, WINDOW_SECONDS)
            best, spent = min(best, each), spent + took
    return best


def _window(
    run: Callable[[], Any], callers: int, threads: Executor, seconds: float
) -> tuple[float, float]:
    """Seconds a run, and in all, while each caller runs for ``seconds``, once at least."""
    barrier = threading.Barrier(callers + 1)

    def call() -> tuple[int, float]:
        barrier.wait()
        end, count, now = time.perf_counter() + seconds, 0, 0.0
        while now < end:
            run()
            count, now = count + 1, time.perf_counter()
        return count, now

    calls = [threads.submit(call) for _ in range(callers)]
    barrier.wait()
    begun = time.perf_counter()
    counts, ends = zip(*(each.result() for each in calls), strict=True)
    took = max(ends) - begun
    return callers * took / sum(counts), took


if __name__ == "__main__":
    _child()
