# SPDX-License-Identifier: MIT
"""Answers that stay open: server-sent events, written when there is something to tell.

The laws of a stream:

- What is written goes out at once, to all readers as the same bytes: the answer ends where the
  connection does, and is not sent in chunks.
- What a reader has not taken yet waits as what was written, which all share; the transport copies
  no more than ``SLICE`` of it.
- A reader that does not keep up is cut off: more than ``MAX_UNSENT`` bytes that came while others
  waited, or ``STUCK_BEATS`` heartbeats in which nothing went out. It comes back and starts afresh.
- ``closed`` tells who ended it: only a connection that its reader closed says anything of him.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import LoopingCall
from twisted.web.http import datetimeToString
from twisted.web.http_headers import Headers
from zope.interface import implementer

from smls_registry.channel import RegistryChannel
from smls_registry.events import HEARTBEAT

HEARTBEAT_SECONDS = 5.0
"""A reader that hears nothing for three of these may take the stream for dead."""

SLICE = 64 * 1024
"""Bytes after which Twisted's transports say that they are full."""

MAX_UNSENT = 256 * 1024
"""Hundreds of changes; with more, a new snapshot is soon the smaller thing to send."""

STUCK_BEATS = 6
"""Half a minute for 64 kB: slower readers are none."""

_SLOTS = 10
"""Heartbeats are spread over so many turns of the reactor, or thousands would delay a change."""


@implementer(IPushProducer)
class Stream:
    """The answer to the request that ``channel`` handles, which is held open.

    ``closed`` fires when it ends: with ``True`` where its reader closed the connection, else with
    ``False``.
    """

    def __init__(self, channel: RegistryChannel) -> None:
        self.closed: Deferred[bool] = Deferred()
        self._transport: Any = channel.transport
        self._full = False
        self._waiting: list[bytes | memoryview] = []
        self._unsent = 0
        self._stuck = 0
        channel.become_stream(_headers(), self._lost)
        channel.registerProducer(self, True)  # type: ignore[no-untyped-call]

    def write(self, data: bytes) -> None:
        """Sends ``data`` at once, or cuts the reader off where it does not keep up."""
        if not self._full:
            self._send(data)
        elif self._unsent + len(data) > MAX_UNSENT:
            self.cut_off()
        else:
            self._unsent += len(data)
            self._waiting.append(data)

    def beat(self) -> None:
        """Sends a heartbeat."""
        self._stuck += self._full
        if self._stuck > STUCK_BEATS:
            self.cut_off()
        else:
            self.write(HEARTBEAT)

    def end(self) -> None:
        """Ends it in order: what the transport holds is still sent."""
        if self._end(by_reader=False):
            self._transport.loseConnection()

    def cut_off(self) -> None:
        """Ends it at once, and throws away what was not sent."""
        if self._end(by_reader=False):
            self._transport.abortConnection()

    def pauseProducing(self) -> None:
        self._full = True

    def resumeProducing(self) -> None:
        self._full = False
        self._stuck = 0
        while self._waiting and not self._full:
            self._send(self._waiting.pop(0))
        if not self._waiting:
            self._unsent = 0

    def stopProducing(self) -> None:
        pass

    def _send(self, data: bytes | memoryview) -> None:
        if len(data) <= SLICE:
            self._transport.write(bytes(data))
            return
        rest = memoryview(data)
        while rest and not self._full:
            self._transport.write(bytes(rest[:SLICE]))
            rest = rest[SLICE:]
        if rest:
            self._waiting.insert(0, rest)

    def _lost(self) -> None:
        self._end(by_reader=True)

    def _end(self, *, by_reader: bool) -> bool:
        first = not self.closed.called
        self._waiting.clear()
        if first:
            self.closed.callback(by_reader)
        return first


class Heartbeats:
    """Sends each of its streams a heartbeat each ``HEARTBEAT_SECONDS``, once started."""

    def __init__(self, clock: Any) -> None:
        self._slots: deque[set[Stream]] = deque(set() for _ in range(_SLOTS))
        self._beats = LoopingCall(self._beat)
        self._beats.clock = clock

    def start(self) -> None:
        self._beats.start(HEARTBEAT_SECONDS / _SLOTS, now=False)

    def stop(self) -> None:
        """Stops, and ends the streams."""
        if self._beats.running:
            self._beats.stop()
        for slot in self._slots:
            for stream in list(slot):
                stream.end()

    def add(self, stream: Stream) -> None:
        """Keeps ``stream`` beating until it closes."""
        slot = self._slots[-1]
        slot.add(stream)

        def closed(by_reader: bool) -> bool:
            slot.discard(stream)
            return by_reader

        stream.closed.addCallback(closed)

    def _beat(self) -> None:
        self._slots.rotate(-1)
        for stream in list(self._slots[-1]):
            stream.beat()


def _headers() -> Headers:
    return Headers(
        {
            "Content-Type": ["text/event-stream"],
            "Cache-Control": ["no-store"],
            "Connection": ["close"],
            "Date": [datetimeToString().decode("ascii")],
            # What nginx obeys: a proxy that buffers would hold events back.
            "X-Accel-Buffering": ["no"],
        }
    )
