# SPDX-License-Identifier: MIT
"""Nothing blocks a node's reactor: neither large uploads, nor decoding them, nor the model.

The model takes many times as long as any of the limits here, so that a reactor which waited for
one run would miss them all. They are not tighter because the machine that runs the tests may run
other things: what is late by a scheduler's doing must not fail.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles

import pytest

from tests.integration.fleet import UNMEASURED, classify, connect, noise, reply
from tests.integration.graphs import write_slow
from tests.processes import LOCAL, ROOT, Running, running

WATCHED = f"import sys; sys.path.append({str(ROOT)!r}); from tests.integration import watched\n"
WATCHED += "watched.main()"

LOAD_SECONDS = 4.0


class Photographers:
    """Clients that post large photos to a node, one after the other."""

    def __init__(self, node: Running, count: int) -> None:
        self.milliseconds: list[float] = []
        """How long the model took for each, as the node says."""
        self.statuses: set[int] = set()
        self._url = node.url
        self._photo = noise(1600, 1200)
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._post) for _ in range(count)]

    @contextmanager
    def at_work(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            for thread in self._threads:
                thread.join()

    def _post(self) -> None:
        while not self._stopping.is_set():
            answer = classify(self._url, self._photo)
            self.statuses.add(answer.status)
            took = re.search(r"infer;dur=([0-9.]+)", answer.headers.get("Server-Timing", ""))
            if took:
                self.milliseconds.append(float(took[1]))


@pytest.fixture
def lateness(tmp_path: Path) -> Path:
    return tmp_path / "late.json"


@pytest.fixture
def node(tmp_path: Path, lateness: Path) -> Iterator[Running]:
    """A watched node whose model takes half a second for an image, or more."""
    graph = write_slow(tmp_path, "slow", 24)
    with running(WATCHED, lateness, *LOCAL, *UNMEASURED, *graph) as node:
        yield node


def test_the_reactor_is_never_blocked_while_photos_are_classified(
    node: Running, lateness: Path
) -> None:
    photographers = Photographers(node, 8)
    with photographers.at_work():
        begun = time.monotonic()
        waits = health_checks(node, LOAD_SECONDS)
        ended = time.monotonic()
    assert node.stop()[0] == 0
    assert photographers.statuses == {200}
    run_seconds = min(photographers.milliseconds) / 1000
    assert run_seconds > 0.1

    late = [by for at, by in json.loads(lateness.read_text()) if begun <= at <= ended]
    assert len(late) > LOAD_SECONDS / 0.1
    # One run of the model on the reactor would show here, as would one that kept the GIL.
    assert max(late) < run_seconds
    assert quantiles(late, n=100)[-1] < 0.1
    # Nine of ten, since on a machine of two cores, both of them computing, a single answer may
    # wait for its turn on a core, and not for the node.
    assert quantiles(waits, n=10)[-1] < 0.02


def health_checks(node: Running, seconds: float) -> list[float]:
    """How long each of many calls of the health endpoint took, in seconds."""
    waits = []
    connection = connect(node.url)
    end = time.monotonic() + seconds
    while (begun := time.monotonic()) < end:
        connection.request("GET", "/healthz")
        assert reply(connection.getresponse()).status == 200
        waits.append(time.monotonic() - begun)
    connection.close()
    return waits
