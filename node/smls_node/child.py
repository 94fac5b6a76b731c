# SPDX-License-Identifier: MIT
"""One life of a replica, as its supervisor has it: started, spoken to, ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from smls_node import handover, machine


class Child:
    """One life of a replica, from its start until ``on_end`` is told how it ended and its status.

    The signals that ask a program to stop are blocked in it: who sends them to all processes of a
    service would make the supervisor's own word the second one, which ends a node at once.

    ``on_word`` is given what it says, and ``None`` where it has closed its end, which the kernel
    does before it is known how it ended.
    """

    def __init__(
        self,
        reactor: Any,
        arguments: Sequence[str],
        count: int,
        on_word: Callable[[dict[str, Any] | None], None],
        on_end: Callable[[str, int], None],
    ) -> None:
        """Starts it.

        :raises OSError: where the system starts no process.
        """
        self._reactor = reactor
        self._on_word = on_word
        self._on_end = on_end
        self._kills = machine.memory_kills()
        self._end, theirs = handover.pair()
        number, *options = arguments
        with theirs, signals_blocked(signal.SIGINT, signal.SIGTERM):
            try:
                self._popen = subprocess.Popen(
                    [
                        *(sys.executable, "-m", "smls_node.replica"),
                        *(number, str(theirs.fileno()), *options),
                    ],
                    stdin=subprocess.PIPE,
                    pass_fds=[theirs.fileno()],
                    env={**os.environ, machine.REPLICAS: str(count)},
                )
            except OSError:
                self._end.close()
                raise
        reactor.addReader(self)
        threading.Thread(target=self._wait, daemon=True).start()

    @property
    def id(self) -> int:
        return self._popen.pid

    def give(self, connection: socket.socket) -> bool:
        """Gives it a connection; whether it took it."""
        try:
            handover.give(self._end, connection)
        except OSError:
            # It has just ended, or it hangs with hundreds of connections not taken.
            return False
        return True

    def stop(self) -> None:
        """Has it stop in order, or ends it where nothing can be said to it."""
        try:
            self._end.send(handover.STOP)
        except OSError:
            self.kill()

    def kill(self) -> None:
        """Ends it at once."""
        self._popen.kill()

    def fileno(self) -> int:
        """As a reader of the reactor."""
        return self._end.fileno()

    def logPrefix(self) -> str:
        return "replica"

    def connectionLost(self, reason: object) -> None:
        """The reactor reads no more."""

    def doRead(self) -> None:
        try:
            said = self._end.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if not said:
            self._reactor.removeReader(self)
        self._on_word(json.loads(said) if said else None)

    def _wait(self) -> None:
        status = self._popen.wait()
        how = machine.told_end(status, self._kills, machine.memory_kills())
        self._reactor.callFromThread(self._ended, how, status)

    def _ended(self, how: str, status: int) -> None:
        self._reactor.removeReader(self)
        self._end.close()
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        self._on_end(how, status)


@contextmanager
def signals_blocked(*numbers: signal.Signals) -> Iterator[None]:
    """Blocks signals in this thread, and in the processes that it starts, for all their life."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
