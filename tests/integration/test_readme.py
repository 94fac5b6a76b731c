# SPDX-License-Identifier: MIT
"""The README's commands and code run as they stand there.

Blocks tagged ``sh server`` are started, ``sh run`` are run line by line, ``python`` are run as
scripts; only the addresses are replaced by those of free ports of this machine.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SAFE_SECONDS = 120.0

LOCAL = ("--host", "127.0.0.1", "--port", "0", "--no-mdns")


def blocks(kind: str) -> list[str]:
    """The README's blocks of code that are tagged ``kind``."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{re.escape(kind)}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


class Servers:
    """The registry and the node of the README, on free ports."""

    def __init__(self, running: ExitStack) -> None:
        self._running = running
        self.addresses: dict[str, str] = {}

    def start(self, command: str) -> None:
        program, *options = self.here(command).split()
        path = [sys.executable, str(Path(sys.executable).parent / program)]
        process = subprocess.Popen(
            [*path, *options, *LOCAL],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._running.callback(process.communicate, timeout=SAFE_SECONDS)
        self._running.callback(process.terminate)
        assert process.stdout is not None
        usual = "12480" if program == "smls-registry" else "8501"
        for line in process.stdout:
            ready = re.search(r"ready at http://127\.0\.0\.1:([0-9]+)", line)
            if ready:
                self.addresses[usual] = ready[1]
                return
        raise AssertionError(f"{command}: it ended before it was ready")

    def here(self, text: str) -> str:
        """``text`` with the README's ports replaced by those that were free."""
        for usual, port in self.addresses.items():
            text = text.replace(f"127.0.0.1:{usual}", f"127.0.0.1:{port}")
        return text


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with ExitStack() as running:
        started = Servers(running)
        for command in blocks("sh server"):
            started.start(command)
        yield started


def run(command: list[str]) -> str:
    """What the command prints, run where the README is, with this environment's programs."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=SAFE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_is_something_to_run() -> None:
    assert len(blocks("sh server")) == 2
    assert len(blocks("sh run")) == 2
    assert len(blocks("python")) == 2


def test_the_commands_read_the_digits(servers: Servers) -> None:
    client, curl = (servers.here(block).splitlines() for block in blocks("sh run"))
    classified, listed = (run(["sh", "-c", line]) for line in client)
    assert re.search(r"three\.jpg +3 ", classified)
    assert re.search(r"seven\.jpg +7 ", classified)
    assert "digits" in listed
    direct, redirected, by_next = (run(["sh", "-c", line]) for line in curl)
    assert '"predictions":[{"label":"3"' in direct
    assert '"predictions":[{"label":"3"' in redirected
    assert by_next.startswith('[["3"')


@pytest.mark.parametrize("number", [0, 1])
def test_the_code_reads_the_digits(servers: Servers, number: int) -> None:
    printed = run([sys.executable, "-c", servers.here(blocks("python")[number])])
    assert [line.split()[0] for line in printed.splitlines()] == ["3", "7"][: 1 + number]
