# SPDX-License-Identifier: MIT
"""What a node holds, seen from outside, and a neighbour who is served whatever others do."""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median

from attrs import frozen

from tests.integration.fleet import DIGITS, SAMPLES, ask, best, classify, port_of, records
from tests.processes import Running, until

FLAT_MB = 16
"""What one storm alone may add: allocators take memory in steps and keep what they once had."""

STORMS, QUIET_STORMS = 40, 6
"""How many there are at most, and of how many in a row most must add nothing. Allocators and
TensorFlow may need fifteen until they have all that they ever need."""

LEAK_MB = 1.5
"""What a storm may add: of 2,000 requests, less than 1 kB each."""


@frozen
class Held:
    """What a process holds of its system."""

    descriptors: int
    threads: int


class Watch:
    """A running node, watched through /proc and through its own page."""

    def __init__(self, node: Running) -> None:
        self.node = node
        self.url = node.url
        self._proc = Path("/proc") / str(node.process.pid)
        self._read = 0

    def held(self) -> Held:
        """What it holds now; asking it is not counted."""
        return Held(len(os.listdir(self._proc / "fd")), len(os.listdir(self._proc / "task")))

    def resident_mb(self) -> float:
        """Its memory, in MB."""
        (line,) = (
            line
            for line in (self._proc / "status").read_text().splitlines()
            if line.startswith("VmRSS:")
        )
        return int(line.split()[1]) / 1000

    def leaks_nothing_by(self, storm: Callable[[int], None]) -> None:
        """Weathers storms, each with a seed of its own, until most of the last ones have added
        nothing. An allocator's step is seen in one of them, a leak in every one."""
        resident = []
        for seed in range(STORMS):
            storm(seed)
            self.at_rest()
            resident.append(self.resident_mb())
            added = [after - before for before, after in pairwise(resident)][-QUIET_STORMS:]
            if len(added) == QUIET_STORMS and median(added) < LEAK_MB:
                return
        raise AssertionError(f"after each of {STORMS} storms there was more, in MB: {resident}")

    def waiting(self) -> dict[str, tuple[int, int]]:
        """In flight and queued, of each model."""
        models = ask(self.url).json["models"]
        return {each["name"]: (each["load"]["in_flight"], each["load"]["queue"]) for each in models}

    def at_rest(self) -> Held:
        """What it holds once nothing is in flight in any model."""
        until(lambda: all(load == (0, 0) for load in self.waiting().values()))
        return self.held()

    def back_to(self, before: Held) -> None:
        """Waits until nothing is in flight, and until no more is held than before; then all
        answers are right, and the log tells of no fault."""
        self.at_rest()
        until(lambda: self.held().descriptors <= before.descriptors)
        assert self.held().threads <= before.threads
        for file in DIGITS:
            self.check(file)
        log = self.node.log
        events = records(log[self._read :])
        self._read = len(log)
        assert [each for each in events if "traceback" in each or each.get("status") == 500] == []
        assert "Traceback" not in log

    def send(self, data: bytes) -> socket.socket:
        """A connection by which ``data`` was sent."""
        connection = socket.create_connection(("127.0.0.1", port_of(self.url)))
        connection.sendall(data)
        return connection

    def check(self, file: str) -> None:
        """Asks for one image, and sees that the answer is right."""
        reply = classify(self.url, (SAMPLES / file).read_bytes())
        assert (reply.status, best(reply.json)) == (200, DIGITS[file])

    def posts(self, marked: str) -> Counter[int]:
        """How often each status stands in the log for posts whose path holds ``marked``."""
        told = [each for each in records(self.node.log) if marked in each.get("path", "")]
        return Counter(each["status"] for each in told)

    @contextmanager
    def neighbour(self) -> Iterator[None]:
        """A polite client that asks all the while, and gets nothing but right answers."""
        done = threading.Event()
        served: Counter[str] = Counter()
        wrong: list[BaseException] = []

        def ask_on() -> None:
            while not done.is_set():
                for file in DIGITS:
                    try:
                        self.check(file)
                        served[file] += 1
                    except BaseException as error:
                        wrong.append(error)
                done.wait(0.02)

        thread = threading.Thread(target=ask_on)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
        assert wrong == []
        assert set(served) == set(DIGITS)
