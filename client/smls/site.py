# SPDX-License-Identifier: MIT
"""An HTTP server that refuses early, keeps bodies in memory, and knows what it has open.

A client in the middle of a large upload must still be able to read a refusal. So what needs no
body (413, 404, 405, 503, a redirect) is answered as soon as the headers are there: the answer is
written, the sending side of the connection is closed, and what still arrives is thrown away for
up to ``LINGER_SECONDS``. Closing at once would reset the connection and lose the answer.

Nobody takes more than a share. A connection is served one request a turn of the reactor, and none
while its client leaves answers unread; a request is all there within ``IDLE_SECONDS``, or it is
given up. Bodies that are still arriving take ``max_arriving`` bytes together; where they would take
more, the one that began first is refused. A client that closes its sending side has hung up: this
cannot be told from leaving.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from io import BytesIO
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.http import RESPONSES
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from smls.arriving import Arriving
from smls.errors import Overloaded, SmlsError
from smls.inflate import Inflate
from smls.log import fault
from smls.web import (
    Answer,
    Head,
    Screen,
    Voice,
    answer_for,
    as_it_is,
    cors_headers,
    encoding_error,
    error_answer,
    is_gzip,
)
from smls.web import log as faults

LINGER_SECONDS = 2.0
"""How long a refused upload is read and thrown away before the connection is cut."""

IDLE_SECONDS = 60
"""An idle connection is closed after this; clients should drop theirs earlier. A request has as
long to arrive, from its first byte to its last: slow writers would stay for ever."""

MAX_ARRIVING = 256 << 20
"""Bytes that half-received bodies may take together: a thousand photos, or a dozen of the largest
uploads. Quick clients hold a part of that for milliseconds."""

RETRY_ARRIVING_SECONDS = 2.0

CLOSE_SECONDS = 1.0
"""How long a connection that is being closed may take to send what was written to it."""

# As a class's attribute, a logger would get the class's name for its namespace.
_requests_log = Logger(namespace="smls.requests")


class Body(Protocol):
    """Takes a request's body as it arrives; Twisted rewinds it once it is whole."""

    def write(self, data: bytes, /) -> object: ...

    def tell(self) -> int: ...

    def seek(self, offset: int, whence: int = 0, /) -> object: ...

    def close(self) -> object: ...


class LimitedRequest(Request):
    """A request whose refusal needs no body, and whose body stays within a bound.

    ``started`` is when its headers were there, ``read_seconds`` how long its body then took.
    """

    site: LimitedSite
    content: Any
    started: float = 0.0
    read_seconds: float = 0.0
    received: int = 0
    _head: Head
    _refused: bool = False
    _inflate: Inflate | None = None
    _linger: IDelayedCall | None = None

    def __init__(self, channel: LimitedChannel, queued: object = None) -> None:
        super().__init__(channel)  # type: ignore[no-untyped-call]
        # Twisted sets it once the request is whole; its client may leave before that.
        self.site = channel.site

    def gotLength(self, length: int | None) -> None:
        super().gotLength(length)  # type: ignore[no-untyped-call]
        self.started = self.site.clock.seconds()
        # Before the body is there, Twisted keeps the request line on the channel alone.
        head = Head.of(self.channel._command, self.channel._path, self.requestHeaders, length)
        self._head = head
        for name, value in self.site.cors(head):
            self.responseHeaders.setRawHeaders(name, [value])
        if length != 0 and is_gzip(head):
            self._inflate = Inflate(self.site.max_body)
        answer = self.site.early_answer(head)
        if answer is not None:
            self._refuse(answer)
        else:
            self.content = self.site.body(head)
            self.site.in_flight.add(self)

    def handleContentChunk(self, data: bytes) -> None:
        if self._refused:
            return
        self.received += len(data)
        if self.received > self.site.max_body:
            self._refuse(self.site.too_large())
            return
        if self._inflate is not None:
            try:
                data = self._inflate.take(data)
            except SmlsError as error:
                self._refuse(answer_for(error))
                return
        self.site.make_room(self, len(data))
        if not self._refused:
            super().handleContentChunk(data)  # type: ignore[no-untyped-call]

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if self._refused:
            # The whole body has come, so nothing unread can reset the connection.
            self.channel.loseConnection()
        else:
            self.read_seconds = self.age()
            self.site.arriving.remove(self)
            super().requestReceived(command, path, version)  # type: ignore[no-untyped-call]

    def process(self) -> None:
        """Has the request answered, whose body is there."""
        if self._inflate is not None:
            try:
                self._inflate.end()
            except SmlsError as error:
                self._tell(answer_for(error))
                return
        super().process()  # type: ignore[no-untyped-call]

    def finish(self) -> None:
        super().finish()  # type: ignore[no-untyped-call]
        self.site.request_done(self)

    def connectionLost(self, reason: Failure) -> None:
        if self._linger is not None and self._linger.active():
            self._linger.cancel()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self.site.request_done(self)

    def getRequestHostname(self) -> bytes:
        # Klein gives up on a Host header that is no host name, and no route depends on it.
        return b"localhost"

    def processingFailed(self, reason: Failure) -> Failure:
        """Answers a fault that no face has caught."""
        self._tell(answer_for(fault(faults, reason)))
        return reason

    def age(self) -> float:
        """Seconds since the request's headers were there."""
        return self.site.clock.seconds() - self.started

    def head(self) -> Head:
        """The request as far as its headers tell."""
        return self._head

    def give_up(self) -> None:
        """Refuses the request, whose body still is not there."""
        error = f"the request was not all there after {self.site.timeOut} s"
        self._refuse(error_answer("deadline_exceeded", error))

    def give_way(self) -> None:
        """Refuses the request, whose body is still arriving, to make room for others."""
        error = Overloaded(
            "uploads that began later needed the memory: those that are still arriving may take "
            f"{self.site.arriving.most} bytes together; send it again, or to another node",
            retry_after_seconds=RETRY_ARRIVING_SECONDS,
        )
        self._refuse(answer_for(error))

    def body(self) -> bytes:
        """The request's whole body, once it is processed."""
        self.content.seek(0)
        return bytes(self.content.read())

    def summary(self) -> str:
        """The request and its peer in a few words, whether or not its body is there yet."""
        method = getattr(self.channel, "_command", self.method).decode("latin-1")
        path = getattr(self.channel, "_path", self.uri).decode("latin-1")
        return f"{method} {path} from {self.channel.getPeer()}, {self.age():.1f} s old"

    def _tell(self, answer: Answer) -> None:
        self.write(self.site.voice(self._head.path, answer).write_to(self))  # type: ignore[no-untyped-call]
        self.finish()

    def _refuse(self, answer: Answer) -> None:
        answer = self.site.voice(self._head.path, answer)
        self._refused = True
        self.content = BytesIO()
        self.site.request_done(self)
        channel = self.channel
        self.method, self.uri = channel._command, channel._path
        self.clientproto = channel._version
        self.code = answer.status
        self.sentLength = len(answer.body)
        # With this header left, Twisted would still ask the client to send the body.
        self.requestHeaders.removeHeader(b"expect")
        channel.persistent = False
        headers = answer.closing_headers()
        for name, value in self.site.cors(self._head):
            headers.setRawHeaders(name, [value])
        channel.writeHeaders(
            b"HTTP/1.1",
            b"%d" % answer.status,
            RESPONSES.get(answer.status, b"Refused"),
            headers,
        )
        if self.method != b"HEAD":
            channel.write(answer.body)
        transport: Any = channel.transport
        half_close = getattr(transport, "loseWriteConnection", None)
        if half_close is not None:
            half_close()
        channel.setTimeout(None)
        # By now the answer is read or never will be: a full send buffer must not keep it open.
        self._linger = self.site.clock.callLater(LINGER_SECONDS, transport.abortConnection)
        self.site.log(self)


class LimitedChannel(http.HTTPChannel):
    """An HTTP/1.1 connection of a ``LimitedSite``, which knows it while it is open."""

    site: LimitedSite

    _secure = False
    _host: IAddress | None = None
    _turn: IDelayedCall | None = None

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

    def requestDone(self, request: Request) -> None:
        """The answer to ``request`` is written."""
        # Twisted would go on with all that was sent, however much, and write its answers to
        # memory where nobody reads them.
        self.paused = True
        super().requestDone(request)  # type: ignore[no-untyped-call]
        if not self._waitingForTransport and not (self._buffer and self.persistent):
            self.paused = False
            return
        self._networkProducer.pauseProducing()
        if not self._waitingForTransport:
            self._turn = self.site.clock.callLater(0, self._go_on)

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


class LimitedSite(Site):
    """A site of ``LimitedRequest``s: bodies in memory up to ``max_body`` bytes, one line a request.

    Those that are not yet whole take ``max_arriving`` bytes together, or one of them ``max_body``.

    ``screen`` sees the head of each request that has a body and may answer it at once.
    ``body_for`` makes what a body is written to as it arrives, a ``BytesIO`` where left out.
    ``voice`` tells the errors that no face tells. ``answered`` is told the status and the seconds
    of each answer. ``origins`` are those of the web pages that may read answers (CORS).
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
        idle_seconds: float = IDLE_SECONDS,
        max_arriving: int = MAX_ARRIVING,
    ) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            resource,
            requestFactory=LimitedRequest,
            parsePOSTFormSubmission=False,
            timeout=idle_seconds,
            reactor=clock,
        )
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


class Waiters:
    """Those who wait until a set is empty."""

    def __init__(self) -> None:
        self._waiting: list[Deferred[None]] = []

    def wait(self, members: Collection[object]) -> Deferred[None]:
        """Fires once ``members`` is empty, at once if it is."""
        waiter: Deferred[None] = Deferred()
        self._waiting.append(waiter)
        self.tell(members)
        return waiter

    def tell(self, members: Collection[object]) -> None:
        """Notes what the set holds now."""
        if not members:
            waiting, self._waiting = self._waiting, []
            for waiter in waiting:
                waiter.callback(None)
