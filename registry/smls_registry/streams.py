# SPDX-License-Identifier: MIT
"""Answers that stay open: server-sent events, written when there is something to tell.

The laws of a stream:

- What is written goes out at once, to all readers as the same bytes: the answer ends where the
  connection does, and is not sent in chunks.
- A reader that does not keep up is cut off: more than ``MAX_UNSENT`` bytes that it has not taken,
  or ``STUCK_BEATS`` heartbeats without an empty buffer. It comes back and starts afresh.
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

from smls.site import LimitedRequest
from smls_registry.events import HEARTBEAT

HEARTBEAT_SECONDS = 5.0
"""A reader that hears nothing for three of these may take the stream for dead."""

MAX_UNSENT = 256 * 1024
"""Bytes written beyond what the transport holds when it is full (64 kB, or one snapshot)."""

STUCK_BEATS = 6
"""Half a minute for a snapshot of a few megabytes: slower readers are none."""

_SLOTS = 10
"""Heartbeats are spread over so many turns of the reactor, or thousands would delay a change."""


@implementer(IPushProducer)
class Stream:
    """The answer to ``request``, which is held open; ``write`` it to its reader.

    ``closed`` fires when it ends: with ``True`` where its reader closed the connection, else with
    ``False``. ``gone`` is what a face awaits: it is cancelled when the connection is gone.
    """

    def __init__(self, request: LimitedRequest) -> None:
        self.closed: Deferred[bool] = Deferred()
        self.gone: Deferred[None] = Deferred(lambda _: self._lost())
        self._transport: Any = request.channel.transport
        self._full = False
        self._unsent = 0
        self._stuck = 0
        request.channel.persistent = False
        request.channel.writeHeaders(b"HTTP/1.1", b"200", b"OK", _headers())
        request.channel.registerProducer(self, True)

    def write(self, data: bytes) -> None:
        """Sends ``data`` at once, or cuts the reader off where it does not keep up."""
        if self._full:
            self._unsent += len(data)
            if self._unsent > MAX_UNSENT:
                self.cut_off()
                return
        self._transport.write(data)

    def beat(self) -> None:
        """Sends a heartbeat."""
        self._stuck += self._full
        if self._stuck > STUCK_BEATS:
            self.cut_off()
        else:
            self.write(HEARTBEAT)

    def end(self) -> None:
        """Ends it in order: what was written is still sent."""
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
        self._unsent = self._stuck = 0

    def stopProducing(self) -> None:
        pass

    def _lost(self) -> None:
        self._end(by_reader=True)

    def _end(self, *, by_reader: bool) -> bool:
        first = not self.closed.called
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
