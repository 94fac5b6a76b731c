# SPDX-License-Identifier: MIT
"""What a registry's connections do besides HTTP: renew without being read, and become streams.

A thousand nodes renew three hundred times a second, and parsing and routing that much HTTP takes
a tenth of a core. So a renewal that is said again in the very same bytes is answered as it comes;
it is not logged either. And a thousand requests that are held open take ten megabytes, so a stream
takes over the connection and lets go of the request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import datetimeToString
from twisted.web.http_headers import Headers

from smls.site import LimitedChannel, LimitedRequest, LimitedSite
from smls.web import Answer

Repeat = Callable[[], Answer | None]
"""The answer to the same renewal once more; ``None`` where it must be read after all."""


class RegistryChannel(LimitedChannel):
    """A connection, with the last renewal that came on it, or the stream that it has become."""

    _arrived = b""
    _renewal = b""
    _repeat: Repeat
    _lost: Callable[[], None] | None = None

    def dataReceived(self, data: bytes) -> None:
        if self._lost is not None:
            return
        is_alone = not (self.requests or self.paused or self._buffer)
        if data and data == self._renewal and is_alone:
            answer = self._repeat()
            if answer is not None:
                self.resetTimeout()  # type: ignore[no-untyped-call]
                self.write(_raw(answer))  # type: ignore[no-untyped-call]
                return
        self._arrived = b"" if self.requests else data
        super().dataReceived(data)
        self._arrived = b""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        if self._lost is not None:
            self._lost()

    def remember(self, body: bytes, repeat: Repeat) -> None:
        """Lets ``repeat`` answer what just arrived when it arrives again.

        That must be one renewal with ``body``, and no more.
        """
        head, _, rest = self._arrived.partition(b"\r\n\r\n")
        if rest == body and head.startswith(b"PUT ") and self.persistent:
            self._renewal, self._repeat = self._arrived, repeat

    def become_stream(self, headers: Headers, lost: Callable[[], None]) -> None:
        """Answers the request that is handled with ``headers`` and leaves the connection open.

        What arrives is thrown away from now on; ``lost`` is called when the connection is gone.
        """
        self._lost = lost
        self.writeHeaders(b"HTTP/1.1", b"200", b"OK", headers)  # type: ignore[no-untyped-call]
        requests, self.requests = self.requests, []
        for request in requests:
            request.connectionLost(Failure(ConnectionDone()))


class RegistrySite(LimitedSite):
    """A site of such connections."""

    protocol = RegistryChannel


def channel_of(request: LimitedRequest) -> RegistryChannel:
    """The connection on which ``request`` came."""
    return cast(RegistryChannel, request.channel)


def _raw(answer: Answer) -> bytes:
    return b"HTTP/1.1 200 OK\r\nDate: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s" % (
        datetimeToString(),
        answer.content_type.encode(),
        len(answer.body),
        answer.body,
    )
