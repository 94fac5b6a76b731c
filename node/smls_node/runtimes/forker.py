# SPDX-License-Identifier: MIT
"""The program that is forked for each process apart whose library takes seconds to be imported.

``python -m smls_node.runtimes.forker DESCRIPTOR MODULE`` has ``MODULE.preload()`` import the
library and does nothing else with it: no session, no device, no thread of its own. So what is
forked has it as if it had just been imported, in memory that all of them share. For each request
over the socket of that descriptor (``forks.Forks``) it forks once, says who was born, and later
how that ended. It ends when the node does, as ``guest`` does; what was forked outlives it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import selectors
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable

import numpy as np

from smls_node import machine
from smls_node.runtimes import guest

NUMBER = struct.Struct("<q")
"""A process's id, and later the status with which it ended."""


class Forker:
    """Forks when it is asked to, over ``requests``."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._tellers: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._woken, self._waking = socket.socketpair()

    def serve(self) -> None:
        """Until the node is gone."""
        for end in (self._woken, self._waking):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._waking.fileno(), warn_on_full_buffer=False)
        self._selector.register(self._requests, selectors.EVENT_READ, self._fork)
        self._selector.register(self._woken, selectors.EVENT_READ, self._reap)
        while True:
            for key, _ in self._selector.select():
                work: Callable[[], None] = key.data
                work()

    def _fork(self) -> None:
        _, ends, _, _ = socket.recv_fds(self._requests, 1, 3, socket.MSG_CMSG_CLOEXEC)
        if len(ends) < 3:
            os._exit(0)
        pipe, control, told = ends
        pid = os.fork()
        if pid == 0:
            self._live(pipe, control, told)
        teller = socket.socket(fileno=told)
        self._tellers[pid] = teller
        # Opened before anybody can have asked how it ended: it is of this process and no later one.
        life = os.pidfd_open(pid)
        # Who has asked may want it no more.
        with contextlib.suppress(OSError):
            socket.send_fds(teller, [NUMBER.pack(pid)], [life])
        for each in (pipe, control, life):
            os.close(each)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)
        while self._tellers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            with self._tellers.pop(pid) as teller, contextlib.suppress(OSError):
                teller.send(NUMBER.pack(os.waitstatus_to_exitcode(status)))

    def _live(self, pipe: int, control: int, told: int) -> None:
        """The life of what was forked: as a program of its own, with nothing of this one's."""
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._selector.close()
            for end in (self._requests, self._woken, self._waking, *self._tellers.values()):
                end.close()
            os.close(told)
            os.dup2(pipe, sys.stdin.fileno())
            os.close(pipe)
            os.setpgid(0, 0)
            # Else all that are forked would draw the same numbers; Python's own does it by itself.
            np.random.seed()
            guest.live(socket.socket(fileno=control))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)


def main() -> None:
    """Imports the library, and forks until the node is gone."""
    guest.leave_signals_to_the_node()
    machine.end_with(sys.stdin.fileno())
    requests = socket.socket(fileno=int(sys.argv[1]))
    requests.set_inheritable(False)
    preload: Callable[[], None] = importlib.import_module(sys.argv[2]).preload
    # What cannot be imported here cannot be there, where the one who loads is told why.
    with contextlib.suppress(Exception):
        guest.in_background(preload)
    # What is imported never dies; a look at it would copy the memory that is shared.
    gc.collect()
    gc.freeze()
    Forker(requests).serve()


if __name__ == "__main__":
    main()
