# SPDX-License-Identifier: MIT
"""An HTTP/1.1 connection that gives nobody more than a share, and takes a body in few parts.

It is served one request a turn of the reactor, and none while its client leaves answers unread. A
client that closes its sending side has hung up: this cannot be told from leaving.

While a body is awaited, the kernel keeps what comes until all of it is there, or a good part: each
packet would wake the reactor otherwise, and its caches are cold where models run beside it.

Twisted's channel has none of these, and no way to add them but its own private attributes.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.web.http import RESPONSES, HTTPChannel
from twisted.web.server import Request

from smls.web import error_answer

if TYPE_CHECKING:
    from smls.site import LimitedSite


FEW_BYTES = 1 << 13
"""What is missing of a body is awaited as a whole where it is more than this."""

PART_BYTES = 1 << 18
"""So much of a body is awaited at a time: most photos as a whole."""

READ_BYTES = 1 << 16
"""So much is read at a time of anything else, as is usual for Twisted."""


class LimitedChannel(HTTPChannel):
    """An HTTP/1.1 connection of a ``LimitedSite``, which knows it while it is open."""

    site: LimitedSite

    _secure = False
    _host: IAddress | None = None
    _turn: IDelayedCall | None = None
    _awaited: int = 1

    def connectionMade(self) -> None:
        self.site.channels.add(self)
        super().connectionMade()  # type: ignore[no-untyped-call]
        self._secure = super().isSecure()  # type: ignore[no-untyped-call]
        self._host = super().getHost()  # type: ignore[no-untyped-call]

    # Both are asked for several times a request, and cost Twisted an adaption and a system call.

    def isSecure(self) -> bool:
        return self._secure

    def getHost(self) -> IAddress | None:
        return self._host

    def dataReceived(self, data: bytes) -> None:
        if self._buffer or self.requests:
            # Twisted would extend the time of a request with each byte of it.
            LineReceiver.dataReceived(self, data)
        else:
            super().dataReceived(data)  # type: ignore[no-untyped-call]
        self._await(self.requests[-1].missing if self.requests else 0)

    def _await(self, missing: int) -> None:
        """Has the reactor woken when so many bytes are there, or ``PART_BYTES`` of them, or the
        client has hung up."""
        size = min(missing, PART_BYTES) if missing > FEW_BYTES else 1
        transport: Any = self.transport
        connection = getattr(transport, "socket", None)
        if size != self._awaited and connection is not None:
            self._awaited = size
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
            transport.bufferSize = max(size, READ_BYTES)

    def requestDone(self, request: Request) -> None:
        """The answer to ``request`` is written."""
        # Twisted would go on with all that was sent, however much, and write its answers to
        # memory where nobody reads them.
        self.paused = True
        super().requestDone(request)  # type: ignore[no-untyped-call]
        if not self._waitingForTransport and not (self._buffer and self.persistent):
            self.paused = False
            self._send()
            return
        self._networkProducer.pauseProducing()
        if not self._waitingForTransport:
            self._turn = self.site.clock.callLater(0, self._go_on)

    def _send(self) -> None:
        """Sends what was just written. The reactor would in its next turn, and a lone client waits
        for that; it still does where this connection is to end, or takes less than all of it."""
        transport: Any = self.transport
        if self.persistent and not transport.disconnecting and hasattr(transport, "doWrite"):
            transport.doWrite()

    def resumeProducing(self) -> None:
        """The client has read what was written."""
        if not self.paused:
            super().resumeProducing()  # type: ignore[no-untyped-call]
            return
        self._waitingForTransport = False
        if self._turn is None:
            self._turn = self.site.clock.callLater(0, self._go_on)

    def _go_on(self) -> None:
        self._turn = None
        if self._waitingForTransport:
            return
        self.paused = False
        self.dataReceived(b"")
        # What was sent ahead is used up before more is read, or it would grow with each request.
        if not self.paused and sum(map(len, self._dataBuffer)) <= self._optimisticEagerReadSize:
            self._networkProducer.resumeProducing()

    def timeoutConnection(self) -> None:
        request = self.requests[-1] if self.requests else None
        if request in self.site.in_flight:
            request.give_up()
        else:
            super().timeoutConnection()  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        # What would decode the rest of a body knows this, and the request.
        self._transferDecoder = None
        self.site.connection_lost(self)

    def lineLengthExceeded(self, line: bytes) -> None:
        self._respondToBadRequestAndDisconnect()

    def _respondToBadRequestAndDisconnect(self) -> None:
        # Twisted's own answer to what is no HTTP has neither a body nor a Content-Type.
        answer = error_answer("bad_request", "what was sent is no HTTP request that is understood")
        headers = answer.closing_headers()
        self.writeHeaders(b"HTTP/1.1", b"400", RESPONSES[400], headers)  # type: ignore[no-untyped-call]
        self.write(answer.body)  # type: ignore[no-untyped-call]
        self.loseConnection()  # type: ignore[no-untyped-call]
