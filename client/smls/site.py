# SPDX-License-Identifier: MIT
"""An HTTP server that refuses early, keeps bodies in memory, and knows what it has open.

Nobody takes more than a share: a request is all there within ``IDLE_SECONDS``, or it is given up,
and bodies that are still arriving take ``max_arriving`` bytes together; where they would take
more, the one that began first is refused. ``request`` says how a refusal is told, and ``channel``
how a connection is shared out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from io import BytesIO
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web import http
from twisted.web.resource import IResource
from twisted.web.server import Site

from smls.arriving import Arriving
from smls.channel import LimitedChannel
from smls.request import Body, LimitedRequest
from smls.turns import shorten_turns
from smls.waiters import Waiters
from smls.web import (
    Answer,
    Head,
    Screen,
    Voice,
    as_it_is,
    cors_headers,
    encoding_error,
    error_answer,
)

__all__ = ["Body", "LimitedChannel", "LimitedRequest", "LimitedSite"]

IDLE_SECONDS = 60
"""An idle connection is closed after this; clients should drop theirs earlier. A request has as
long to arrive, from its first byte to its last: slow writers would stay for ever."""

MAX_ARRIVING = 256 << 20
"""Bytes that half-received bodies may take together: a thousand photos, or a dozen of the largest
uploads. Quick clients hold a part of that for milliseconds."""

CLOSE_SECONDS = 1.0
"""How long a connection that is being closed may take to send what was written to it."""

# As a class's attribute, a logger would get the class's name for its namespace.
_requests_log = Logger(namespace="smls.requests")


class LimitedSite(Site):
    """A site of ``LimitedRequest``s: bodies in memory up to ``max_body`` bytes, one line a request.

    Those that are not yet whole take ``max_arriving`` bytes together, or one of them ``max_body``.

    ``screen`` sees the head of each request that has a body and may answer it at once.
    ``body_for`` makes what a body is written to as it arrives, a ``BytesIO`` where left out.
    ``voice`` tells the errors that no face tells. ``answered`` is told the status and the seconds
    of each answer. ``origins`` are those of the web pages that may read answers (CORS).
    ``crowded`` is called in each turn of the reactor that has more ready connections than it takes,
    and ``may_rest`` is asked before each: see ``turns``.
    ``request_class`` makes the requests.
    Form bodies are left to the faces: Twisted's own form parsing blocks the reactor.
    """

    noisy = False
    protocol = LimitedChannel  # type: ignore[assignment]

    def __init__(
        self,
        resource: IResource,
        clock: IReactorTime,
        *,
        max_body: int,
        screen: Screen,
        body_for: Callable[[Head], Body] | None = None,
        voice: Voice = as_it_is,
        answered: Callable[[int, float], object] = lambda status, seconds: None,
        origins: Collection[str] = (),
        request_class: type[LimitedRequest] = LimitedRequest,
        idle_seconds: float = IDLE_SECONDS,
        max_arriving: int = MAX_ARRIVING,
        crowded: Callable[[], object] = lambda: None,
        may_rest: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            resource,
            requestFactory=request_class,
            parsePOSTFormSubmission=False,
            timeout=idle_seconds,
            reactor=clock,
        )
        shorten_turns(clock, crowded, may_rest)
        self.clock = clock
        self.max_body = max_body
        self.voice = voice
        self._answered = answered
        self._origins = origins
        self.channels: set[LimitedChannel] = set()
        self.in_flight: set[LimitedRequest] = set()
        self.arriving: Arriving[LimitedRequest] = Arriving(max(max_arriving, max_body))
        self._screen = screen
        self._body_for = body_for
        self._idle = Waiters()
        self._closed = Waiters()

    def getContentFile(self, length: int | None) -> BytesIO:
        return BytesIO()

    def body(self, head: Head) -> Body:
        """What the body of the request is written to as it arrives."""
        return BytesIO() if self._body_for is None else self._body_for(head)

    def early_answer(self, head: Head) -> Answer | None:
        """The answer to a request that needs no body, from its head."""
        if not head.is_text:
            return error_answer("bad_request", "the path is not UTF-8")
        if head.length == 0:
            return None
        answer = self._screen(head) or encoding_error(head)
        if answer is None and head.length is not None and head.length > self.max_body:
            return self.too_large()
        return answer

    def cors(self, head: Head) -> tuple[tuple[str, str], ...]:
        """The headers that tell browsers who may read the answer."""
        return cors_headers(self._origins, head) if self._origins else ()

    def too_large(self) -> Answer:
        return error_answer(
            "too_large", f"the body has more than the {self.max_body} bytes that are allowed"
        )

    def make_room(self, request: LimitedRequest, size: int) -> None:
        """Counts ``size`` bytes more of the request's body, and refuses who is in their way."""
        for slowest in self.arriving.add(request, size):
            slowest.give_way()

    def when_idle(self) -> Deferred[None]:
        """Fires as soon as no request is in flight: none half received, none unanswered."""
        return self._idle.wait(self.in_flight)

    def request_done(self, request: LimitedRequest) -> None:
        """Notes that the request was answered, or that its connection is gone."""
        self.in_flight.discard(request)
        self.arriving.remove(request)
        self._idle.tell(self.in_flight)

    def close_connections(self) -> Deferred[None]:
        """Closes the open connections, and fires when none is left.

        What was written is still sent, for up to ``CLOSE_SECONDS``.
        """
        late = self.clock.callLater(CLOSE_SECONDS, self._abort_connections)
        for channel in list(self.channels):
            channel.loseConnection()  # type: ignore[no-untyped-call]
        closed = self._closed.wait(self.channels)
        return closed.addCallback(lambda _: late.cancel() if late.active() else None)

    def connection_lost(self, channel: LimitedChannel) -> None:
        """Notes that ``channel`` is gone."""
        self.channels.discard(channel)
        self._closed.tell(self.channels)

    def log(self, request: http.Request) -> None:
        assert isinstance(request, LimitedRequest)
        peer = request.channel.getPeer()
        seconds = request.age()
        self._answered(request.code, seconds)
        _requests_log.info(
            "{method} {path} {status} {milliseconds:.1f} ms",
            method=request.method.decode("latin-1"),
            path=request.uri.decode("latin-1"),
            status=request.code,
            milliseconds=seconds * 1000,
            peer=getattr(peer, "host", ""),
            sent=request.sentLength,
        )

    def _abort_connections(self) -> None:
        for channel in list(self.channels):
            transport: Any = channel.transport
            transport.abortConnection()
