# SPDX-License-Identifier: MIT
"""A renewal that is said again in the very same bytes is answered without being read.

A thousand nodes renew three hundred times a second, and parsing and routing that much HTTP takes
a tenth of a core. Such renewals are not logged either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from twisted.web.http import datetimeToString

from smls.site import LimitedChannel, LimitedRequest, LimitedSite
from smls.web import Answer

Repeat = Callable[[], Answer | None]
"""The answer to the same renewal once more; ``None`` where it must be read after all."""


class RenewalChannel(LimitedChannel):
    """A connection that knows the last renewal which came on it."""

    _arrived = b""
    _renewal = b""
    _repeat: Repeat

    def dataReceived(self, data: bytes) -> None:
        if data == self._renewal and not self.requests:
            answer = self._repeat()
            if answer is not None:
                self.resetTimeout()  # type: ignore[no-untyped-call]
                self.write(_raw(answer))  # type: ignore[no-untyped-call]
                return
        self._arrived = b"" if self.requests else data
        super().dataReceived(data)  # type: ignore[no-untyped-call]
        self._arrived = b""

    def remember(self, body: bytes, repeat: Repeat) -> None:
        """Lets ``repeat`` answer what just arrived when it arrives again, if it is one request."""
        head, _, rest = self._arrived.partition(b"\r\n\r\n")
        if rest == body and head.startswith(b"PUT ") and self.persistent:
            self._renewal, self._repeat = self._arrived, repeat


class RenewalSite(LimitedSite):
    """A site of such connections."""

    protocol = RenewalChannel


def remember(request: LimitedRequest, body: bytes, repeat: Repeat) -> None:
    """Notes that ``request``, whose body is ``body``, was a renewal."""
    cast(RenewalChannel, request.channel).remember(body, repeat)


def _raw(answer: Answer) -> bytes:
    return b"HTTP/1.1 200 OK\r\nDate: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s" % (
        datetimeToString(),
        answer.content_type.encode(),
        len(answer.body),
        answer.body,
    )
