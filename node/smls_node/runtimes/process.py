# SPDX-License-Identifier: MIT
"""One life of a process in which runtimes are loaded: started, asked by many threads, ended."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred

from smls_node import machine
from smls_node.runtimes.channel import Channel, Closed
from smls_node.runtimes.forks import Life


class Process:
    """One life of a process apart. ``started`` is when it began, by the clock of its owner;
    ``begin`` begins it (``forks``)."""

    def __init__(
        self,
        started: float,
        on_end: Callable[[Process], None],
        begin: Callable[[socket.socket], Life],
    ) -> None:
        self.started = started
        ours, theirs = socket.socketpair()
        self._control = ours
        self._kills = machine.memory_kills()
        self._status: int | None = None
        with theirs:
            self._life = begin(theirs)
        self._idle: list[Channel] = []
        self._gone = threading.Event()
        threading.Thread(target=self._wait, args=(on_end,), daemon=True).start()

    @property
    def id(self) -> int:
        return self._life.id

    def ask(self, *question: Any) -> Any:
        """The answer, or the error that it is. Several threads may ask at once.

        :raises Closed: where the process is gone, or dies before it has answered.
        """
        with self._channel() as channel:
            channel.lend(question)
            reply = channel.receive()
        return _told(*reply)

    async def ask_later(self, reactor: Any, *question: Any) -> Any:
        """As ``ask``, for the thread of ``reactor``, which it does not block."""
        with self._channel() as channel:
            channel.lend(question)
            reply = await _received(channel, reactor)
        return _told(*reply)

    def how_it_ended(self) -> str:
        """Waits for the end, which has begun, and says how it was, as what follows a subject."""
        if not self._gone.wait(1.0):
            # It lives on and has closed a channel: nothing more can be said to it.
            self._life.kill()
            self._gone.wait()
        return machine.told_end(self._status, self._kills, machine.memory_kills())

    def end(self) -> None:
        """Ends the process; it is gone on return."""
        self._life.let_go()
        if not self._gone.wait(1.0):
            self._life.kill()
            self._gone.wait()

    @contextlib.contextmanager
    def _channel(self) -> Iterator[Channel]:
        """A channel that nobody else uses; where its user fails, nobody will: an answer may be
        under way that nobody would take."""
        try:
            channel = self._idle.pop()
        except IndexError:
            channel = self._open()
        try:
            yield channel
        except BaseException:
            channel.close()
            raise
        self._idle.append(channel)
        if self._gone.is_set():
            self._close_idle()

    def _open(self) -> Channel:
        ours, theirs = socket.socketpair()
        memory = os.memfd_create("smls-batch", os.MFD_CLOEXEC)
        with theirs:
            try:
                socket.send_fds(self._control, [b"c"], [theirs.fileno(), memory])
            except OSError as error:
                ours.close()
                os.close(memory)
                raise Closed(str(error)) from error
        return Channel(ours, memory)

    def _wait(self, on_end: Callable[[Process], None]) -> None:
        self._status = self._life.wait()
        self._gone.set()
        self._life.let_go()
        self._control.close()
        self._close_idle()
        try:
            on_end(self)
        finally:
            self._life.leave()

    def _close_idle(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()


class _Reader:
    """Reads a channel in the turns of ``reactor`` until ``received`` has what came."""

    def __init__(self, channel: Channel, reactor: Any) -> None:
        self.received: Deferred[Any] = Deferred()
        self._channel = channel
        self._reactor = reactor
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._channel.fileno()

    def logPrefix(self) -> str:
        return "process"

    def connectionLost(self, reason: object) -> None:
        """The reactor reads no more."""

    def doRead(self) -> None:
        try:
            value = self._channel.receive(wait=False)
        except BlockingIOError:
            return
        except Exception:
            self._reactor.removeReader(self)
            self.received.errback()
        else:
            self._reactor.removeReader(self)
            self.received.callback(value)


def _received(channel: Channel, reactor: Any) -> Deferred[Any]:
    return _Reader(channel, reactor).received


def _told(is_answer: bool, answer: Any) -> Any:
    if not is_answer:
        raise answer
    return answer
