# SPDX-License-Identifier: MIT
"""The program of a process apart: loads runtimes and runs them for the node that has started it.

``python -m smls_node.runtimes.guest DESCRIPTOR``, or a fork (``forker``), gets over that socket
the ends of channels, and serves each in a thread of its own. It ends when the node does, however
that ends: its standard input is a pipe that nobody else holds, and the kernel kills it when the
pipe closes. The signals that ask a node to stop are ignored here, since the node answers what it
has before it stops.
"""

from __future__ import annotations

import gc
import io
import logging
import os
import pickle
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from attrs import evolve

from smls.errors import SmlsError
from smls_node import machine
from smls_node.runtimes import Runtime
from smls_node.runtimes.channel import Channel, Closed

T = TypeVar("T")

NICE = 5
"""Leaves a quarter of a core that others want too: a load on a busy node goes on, and is hardly
noticed. On Linux a thread has a priority of its own, and hands it on to those that it starts."""


class Guests:
    """The runtimes of this process by the numbers that the node gave them."""

    def __init__(self) -> None:
        self._runtimes: dict[int, Runtime] = {}
        self._executors: dict[int, list[Callable[..., Any]]] = {}

    def load(
        self, number: int, how: Callable[[], Runtime], is_in_background: bool
    ) -> tuple[Any, Any]:
        """Loads a runtime; its signatures and its example."""
        runtime = self._runtimes[number] = in_background(how) if is_in_background else how()
        machine.settle()
        self._executors[number] = []
        return dict(runtime.signatures), dict(runtime.example)

    def plan(self, number: int, plan: Any) -> None:
        """Notes how batches of a runtime are executed, by its next plan."""
        self._executors[number].append(plan.executor(self._runtimes[number]))

    def execute(self, number: int, plan: int, works: Any) -> Any:
        """Executes a batch by one of the plans that were noted."""
        done = self._executors[number][plan](works, lambda seconds: None)
        results = [portable(each) if isinstance(each, Exception) else each for each in done.results]
        return evolve(done, results=results)

    def infer(self, number: int, inputs: Any, signature: str, parameters: Any) -> Any:
        return self._runtimes[number].infer(inputs, signature, parameters)

    def unload(self, number: int) -> None:
        runtime = self._runtimes.pop(number, None)
        self._executors.pop(number, None)
        if runtime is not None:
            runtime.unload()
        if not self._runtimes:
            # The process ends, and takes along what was in it.
            return
        gc.unfreeze()
        machine.settle()

    def serve(self, channel: Channel) -> None:
        """Answers what comes through ``channel``, until it is closed."""
        try:
            while True:
                channel.send(self._answer(channel))
        except Closed:
            channel.close()

    def _answer(self, channel: Channel) -> tuple[bool, Any]:
        try:
            verb, *given = channel.receive()
            return True, getattr(self, verb)(*given)
        except Closed:
            raise
        except BaseException as error:
            return False, portable(error)


def in_background(how: Callable[[], T]) -> T:
    """What ``how`` gives, in a thread that others go before. Nobody may raise a thread's
    priority again, so it is a thread for this alone."""

    def work() -> T:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        return how()

    with ThreadPoolExecutor(1) as threads:
        return threads.submit(work).result()


def portable(error: BaseException) -> Exception:
    """``error`` as another process can have it: the same where it is one of smls or of Python,
    else what it says. Its traceback is a note."""
    told: Exception = RuntimeError(f"{type(error).__module__}.{type(error).__name__}: {error}")
    if isinstance(error, SmlsError) or type(error).__module__ == "builtins":
        try:
            copy = pickle.loads(pickle.dumps(error))
        except Exception:
            copy = None
        if isinstance(copy, Exception):
            told = copy
    told.add_note("in the process of the model:\n" + "".join(traceback.format_exception(error)))
    return told


def leave_signals_to_the_node() -> None:
    """Ignores those that ask a node to stop."""
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.SIG_IGN)


def live(control: socket.socket) -> None:
    """Serves what comes over ``control`` until the node is gone; the process ends then."""
    machine.end_with(sys.stdin.fileno())
    guests = Guests()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # The process is killed in the end, and what a model has printed is to be seen.
        sys.stdout.reconfigure(line_buffering=True)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    while True:
        _, ends, _, _ = socket.recv_fds(control, 1, 2, socket.MSG_CMSG_CLOEXEC)
        if len(ends) < 2:
            os._exit(0)
        channel = Channel(socket.socket(fileno=ends[0]), ends[1])
        threading.Thread(target=guests.serve, args=(channel,), daemon=True).start()


def main() -> None:
    """Serves until the node is gone."""
    leave_signals_to_the_node()
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    live(control)


if __name__ == "__main__":
    main()
