# SPDX-License-Identifier: MIT
"""Real programs for tests: started, waited for, and gone in the end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TypeVar

T = TypeVar("T")

ROOT = Path(__file__).parents[1]
"""The checkout."""

REGISTRY = "from smls_registry.tap import main; main()"
TWIST = "from twisted.application.twist._twist import Twist; Twist.main()"

PROGRAMS = {
    "smls-client": "from smls.cli import main; main()",
    "smls-node": "from smls_node.tap import main; main()",
    "smls-registry": REGISTRY,
    "twist": TWIST,
}
"""Each console script, and the same as code for a Python beside which it is not installed."""

LOCAL = ("--host", "127.0.0.1", "--port", "0", "--no-mdns")
"""Options with which a server joins nobody's fleet."""

DEADLINE_SECONDS = 300
"""A program that takes longer has hung. A node measures its model within one minute."""


def command(program: str) -> list[str]:
    """How ``program`` is started: the console script beside this Python, or code that it runs."""
    if program in PROGRAMS:
        script = Path(sys.executable).with_name(program)
        if script.exists():
            return [str(script)]
    return [sys.executable, "-c", PROGRAMS.get(program, program)]


def environment(**more: str) -> dict[str, str]:
    """This process's environment, and ``more``.

    Where PYTHONPATH names a checkout that is not installed, it holds in any folder, and Twisted
    finds the checkout's plugins.
    """
    found = {**os.environ, **more}
    if found.get("PYTHONPATH"):
        folders = [*found["PYTHONPATH"].split(os.pathsep), ROOT]
        found["PYTHONPATH"] = os.pathsep.join(str(Path(each).resolve()) for each in folders)
    return found


def run(
    program: str, *arguments: object, text: str = "", cwd: Path | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    """The end of a program that ends by itself; ``more`` goes into its environment."""
    return subprocess.run(
        [*command(program), *map(str, arguments)],
        input=text,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
        cwd=cwd,
        env=environment(**more),
    )


def until(check: Callable[[], T]) -> T:
    """The first true answer of ``check``, which is asked again and again."""
    pause = threading.Event()
    end = time.monotonic() + DEADLINE_SECONDS
    while not (answer := check()):
        assert time.monotonic() < end, f"{check} stayed {answer!r}"
        pause.wait(0.02)
    return answer


class Running:
    """A program that was started, and once ``wait_ready`` returns is ready at ``url``.

    Its log goes to a file: a pipe that nobody reads would stop it in the end.
    """

    def __init__(self, program: str, *arguments: object, **more: str) -> None:
        self.url = self.hint = ""
        with NamedTemporaryFile(prefix="log-", delete=False) as log:
            self._log = Path(log.name)
            self.process = subprocess.Popen(
                [*command(program), *map(str, arguments)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment(**more),
            )

    def wait_ready(self) -> Running:
        """Waits for the line that says so, and keeps the one after it as ``hint``."""
        assert self.process.stdout is not None
        late = threading.Timer(DEADLINE_SECONDS, self.process.kill)
        late.start()
        try:
            for line in self.process.stdout:
                ready = re.search(r"ready at (http://\S+)", line)
                if ready is not None:
                    self.url = ready[1]
                    self.hint = self.process.stdout.readline()
                    return self
        finally:
            late.cancel()
        raise AssertionError(f"not ready, status {self.process.wait()}: {self.log}")

    @property
    def address(self) -> str:
        """Its ``host:port``."""
        return self.url.removeprefix("http://").rstrip("/")

    @property
    def grpc_address(self) -> str:
        """Where it speaks gRPC, as ``host:port``."""
        found = re.search(r"for gRPC port (\d+)", self.log)
        assert found is not None, self.log
        return f"127.0.0.1:{found[1]}"

    @property
    def log(self) -> str:
        """What it has logged by now."""
        return self._log.read_text()

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def end(self) -> tuple[int, str, str]:
        """Waits for the end: exit status, what it printed after its hint, and its log."""
        out, _ = self.process.communicate(timeout=DEADLINE_SECONDS)
        return self.process.returncode, out, self.log

    def stop(self) -> tuple[int, str, str]:
        """Sends SIGTERM, and waits for the end."""
        self.terminate()
        return self.end()

    def close(self) -> None:
        """Sees that nothing of it is left."""
        self.process.kill()
        self.process.communicate()
        self._log.unlink()


@contextmanager
def running(program: str, *arguments: object, **more: str) -> Iterator[Running]:
    """One program, ready; killed on leaving where it still runs."""
    with running_all((program, *arguments), **more) as (started,):
        yield started


@contextmanager
def running_all(*commands: tuple[object, ...], **more: str) -> Iterator[list[Running]]:
    """Several programs that are started at once, each given with its arguments."""
    with ExitStack() as stack:
        started = []
        for program, *arguments in commands:
            started.append(Running(str(program), *arguments, **more))
            stack.callback(started[-1].close)
        yield [each.wait_ready() for each in started]
