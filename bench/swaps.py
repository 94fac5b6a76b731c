# SPDX-License-Identifier: MIT
"""``python -m bench.swaps``: what other models' requests notice of a load, and whether memory
returns.

A node serves two models from folders: the digits, asked at a steady pace, and MobileNetV2, of
which a new version is put there again and again. The node ends with this program however that
ends; its folders stay only where that is killed, until the next run.
"""

from __future__ import annotations

import argparse
import http.client
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bench import models, processes, readiness
from bench.models import Model
from bench.places import SWAPS
from smls_node import machine

CALLERS = 2
PACE_SECONDS = 0.04
"""Between the calls of one caller."""

QUIET_SECONDS = 10.0
LONGEST_SECONDS = 180.0


def main() -> int:
    """Prints two tables in Markdown; 1 where a call failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.swaps", description=__doc__)
    parser.add_argument("--swaps", type=int, default=50, help="50")
    parser.add_argument("--model", default="mobilenet_v2", help="which is swapped; mobilenet_v2")
    options = parser.parse_args()
    if not readiness.ready():
        return 2
    # What ends a program unwinds it, as an interrupt does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    steady, swapped = models.model("digits"), models.model(options.model)
    with _empty(SWAPS) as folder, _node(folder, steady, swapped) as node:
        url, process = node
        image = steady.image_files()[0].read_bytes()
        with _callers(url, image) as quiet:
            time.sleep(QUIET_SECONDS)
        memory: dict[int, float] = {}
        with _callers(url, image) as loading:
            for number in range(2, options.swaps + 2):
                _put(folder / "swapped", str(number), swapped)
                _wait(url, str(number))
                shutil.rmtree(folder / "swapped" / str(number - 1))
                if number % 5 == 1:
                    memory[number - 1] = processes.memory_mb(process)
    print("| calls of the digits | calls | failed | p50 ms | p99 ms | slowest ms |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, calls in (("quiet", quiet), (f"during {options.swaps} loads", loading)):
        p50, p99, most = np.percentile(calls.seconds, (50, 99, 100)) * 1000
        print(
            f"| {name} | {len(calls.seconds)} | {calls.failed} | {p50:.1f} | {p99:.1f} "
            f"| {most:.1f} |"
        )
    ratio = np.percentile(loading.seconds, 99) / np.percentile(quiet.seconds, 99)
    print(f"\np99 during loads / quiet: {ratio:.2f}\n")
    print("| swaps | MB |\n| --- | --- |")
    print("\n".join(f"| {swaps} | {mb:.0f} |" for swaps, mb in memory.items()))
    return 1 if quiet.failed or loading.failed else 0


class _Calls:
    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.failed = 0


@contextmanager
def _callers(url: str, image: bytes) -> Iterator[_Calls]:
    """Callers that post the image to the steady model until the block ends."""
    calls, stop = _Calls(), threading.Event()
    address = url.removeprefix("http://")

    def call() -> None:
        connection = http.client.HTTPConnection(address, timeout=30)
        while not stop.wait(PACE_SECONDS):
            begun = time.perf_counter()
            connection.request(
                "POST", "/?model=steady", image, {"Content-Type": "application/octet-stream"}
            )
            answer = connection.getresponse()
            answer.read()
            calls.seconds.append(time.perf_counter() - begun)
            calls.failed += answer.status != 200

    threads = [threading.Thread(target=call) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    try:
        yield calls
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@contextmanager
def _empty(folder: Path) -> Iterator[Path]:
    """The folder with nothing in it, gone in the end."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def _node(folder: Path, steady: Model, swapped: Model) -> Iterator[tuple[str, int]]:
    """A node that serves both, by its URL and its process."""
    _put(folder / "steady", "1", steady)
    _put(folder / "swapped", "1", swapped)
    command = [str(Path(sys.executable).parent / "smls-node"), "--models", str(folder)]
    node = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", "0", "--no-mdns"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=machine.end_with_parent,
    )
    try:
        assert node.stdout is not None
        ready = next((line for line in node.stdout if "ready at" in line), "")
        yield ready.split("ready at ")[1].split("/ ")[0], node.pid
    finally:
        processes.end(node, 30)


def _put(model: Path, version: str, files: Model) -> None:
    """Puts a version there, whole at once."""
    draft = model / f".{version}"
    draft.mkdir(parents=True)
    shutil.copy(files.graph, draft / "model.pb")
    shutil.copy(files.labels, draft / "labels.txt")
    draft.rename(model / version)


def _wait(url: str, version: str) -> None:
    """Waits until that version of the swapped model answers, and no other one is there."""
    end = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < end:
        request = urllib.request.Request(url, headers={"Accept": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            status = json.load(answer)
        there = [each["version"] for each in status["models"] if each["name"] == "swapped"]
        absent = [each for each in status["absent"] if each["name"] == "swapped"]
        if there == [version] and not absent:
            return
        time.sleep(0.2)
    raise SystemExit(f"version {version} is not there after {LONGEST_SECONDS:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
