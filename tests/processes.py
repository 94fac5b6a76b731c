# SPDX-License-Identifier: MIT
"""Real programs for tests: started, waited for, and gone in the end."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

REGISTRY = "from smls_registry.tap import main; main()"
TWIST = "from twisted.application.twist._twist import Twist; Twist.main()"

DEADLINE_SECONDS = 60
"""A program that takes longer has hung."""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The end of a program that ends by itself."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


class Running:
    """A program that is ready at ``url``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.url = self.hint = ""
        assert process.stdout is not None
        for line in process.stdout:
            ready = re.search(r"ready at (http://\S+)", line)
            if ready is not None:
                self.url = ready[1]
                self.hint = process.stdout.readline()
                return
        raise AssertionError(f"not ready: {process.communicate()[1]}")

    def stop(self) -> tuple[int, str, str]:
        """Exit status, what it printed after its hint, and its log."""
        self.process.terminate()
        out, err = self.process.communicate(timeout=DEADLINE_SECONDS)
        return self.process.returncode, out, err


@contextmanager
def running(code: str, *arguments: str) -> Iterator[Running]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Running(process)
    finally:
        process.kill()
        process.communicate()
