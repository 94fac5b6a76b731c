# SPDX-License-Identifier: MIT
"""How a process apart begins: as a new program, or as a fork of one that has its library.

The laws of forks:

- The program that is forked begins with the first that needs it and ends with the last one, and
  not before who would replace that has been forked too: it takes seconds to begin.
- Where it ends before its forks, they live on; only how they end is then not known.
- A fork that nobody waits for any more is not born, or killed as it is born.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from typing import Protocol

from smls_node.runtimes.forker import NUMBER


class Life(Protocol):
    """A process from its start on. ``id`` is 0 as long as it is not known."""

    @property
    def id(self) -> int: ...

    def wait(self) -> int | None:
        """Blocks until it has ended: its status as ``subprocess`` has it, ``None`` where nobody
        knows. For one thread, which must call it."""

    def let_go(self) -> None:
        """Closes the pipe on whose end it is killed."""

    def kill(self) -> None:
        """Ends it at once."""

    def leave(self) -> None:
        """Once it has ended, and is replaced where it is to be: gives up what both came from."""


class Program:
    """A program ``python -m module DESCRIPTOR arguments``: the descriptor is that of ``theirs``.

    :raises OSError: where the system starts no process.
    """

    def __init__(self, module: str, theirs: socket.socket, *arguments: str) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-m", module, str(theirs.fileno()), *arguments],
            stdin=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            # What a terminal sends to the node's group is the node's alone.
            process_group=0,
        )

    @property
    def id(self) -> int:
        return self._popen.pid

    def wait(self) -> int | None:
        """See ``Life``; any thread may wait."""
        return self._popen.wait()

    def let_go(self) -> None:
        """See ``Life``."""
        assert self._popen.stdin is not None
        self._popen.stdin.close()

    def kill(self) -> None:
        """See ``Life``."""
        self._popen.kill()

    def leave(self) -> None:
        """See ``Life``."""


def fresh(theirs: socket.socket) -> Life:
    """A guest as a new program, which is asked over the other end of ``theirs``."""
    return Program("smls_node.runtimes.guest", theirs)


class Forks:
    """Guests with the library that ``module.preload()`` imports. For all threads."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._forker: _Forker | None = None
        self._changing = threading.Lock()

    def fork(self, theirs: socket.socket) -> Life:
        """A guest as a fork, which is asked over the other end of ``theirs``. Does not wait for
        it to be born.

        :raises OSError: where the system starts no process.
        """
        with self._changing:
            if self._forker is None or not self._forker.lives:
                self._forker = _Forker(self._module)
            self._forker.forks += 1
            return _Fork(self, self._forker, theirs)

    def left(self, forker: _Forker) -> None:
        """Notes that one of its forks is gone for good; the last one takes it along."""
        with self._changing:
            forker.forks -= 1
            if not forker.forks:
                forker.program.let_go()
                self._forker = None if self._forker is forker else self._forker


class _Forker:
    """One life of the program that is forked."""

    def __init__(self, module: str) -> None:
        self.forks = 0
        self.status: int | None = None
        self.requests, theirs = socket.socketpair()
        self._ended = threading.Event()
        with theirs:
            self.program = Program("smls_node.runtimes.forker", theirs, module)
        threading.Thread(target=self._wait, daemon=True).start()

    @property
    def lives(self) -> bool:
        return not self._ended.is_set()

    def wait(self) -> int | None:
        """Its status, once it has ended."""
        self._ended.wait()
        return self.status

    def _wait(self) -> None:
        self.status = self.program.wait()
        self._ended.set()
        self.requests.close()


class _Fork:
    """A guest that was forked, or is to be."""

    def __init__(self, forks: Forks, forker: _Forker, theirs: socket.socket) -> None:
        self.id = 0
        self._forks = forks
        self._forker = forker
        self._life = -1
        self._is_killed = False
        self._is_over = False
        self._changing = threading.Lock()
        self._told, teller = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pipe, self._pipe = os.pipe()
        # Where the forker has just ended nobody will tell, and who waits finds out.
        with teller, contextlib.suppress(OSError):
            socket.send_fds(forker.requests, [b"f"], [pipe, theirs.fileno(), teller.fileno()])
        os.close(pipe)

    def wait(self) -> int | None:
        """See ``Life``."""
        status = self._wait()
        with self._changing:
            self._is_over = True
            self._told.close()
            if self._life >= 0:
                os.close(self._life)
        return status

    def leave(self) -> None:
        """See ``Life``."""
        self._forks.left(self._forker)

    def let_go(self) -> None:
        """See ``Life``."""
        with self._changing:
            if self._pipe >= 0:
                os.close(self._pipe)
                self._pipe = -1

    def kill(self) -> None:
        """See ``Life``."""
        self.let_go()
        with self._changing:
            if self._is_over:
                return
            self._is_killed = True
            if self._life >= 0:
                self._kill()
            else:
                # Where it is not born yet, it will find its pipe closed.
                self._told.shutdown(socket.SHUT_RDWR)

    def _kill(self) -> None:
        # Its end may have come, and not have been heard of.
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._life, signal.SIGKILL)

    def _wait(self) -> int | None:
        told, lives = self._hear()
        if not told:
            return -signal.SIGKILL if self._is_killed else self._forker.wait()
        with self._changing:
            (self.id,), (self._life,) = NUMBER.unpack(told), lives
            if self._is_killed:
                # It was born, and nobody here had heard of it.
                self._kill()
        told, _ = self._hear()
        if told:
            status: int = NUMBER.unpack(told)[0]
            return status
        ended = select.poll()
        ended.register(self._life, select.POLLIN)
        ended.poll()
        return -signal.SIGKILL if self._is_killed else None

    def _hear(self) -> tuple[bytes, list[int]]:
        """What the forker says next, and the descriptor with it; nothing where it is gone."""
        try:
            told, lives, _, _ = socket.recv_fds(self._told, NUMBER.size, 1, socket.MSG_CMSG_CLOEXEC)
        except ConnectionError:
            return b"", []
        return told, lives
