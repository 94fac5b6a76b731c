# SPDX-License-Identifier: MIT
"""What node and registry both need of an HTTP server: early answers, JSON errors, request lines.

A client in the middle of a large upload must still be able to read a refusal. So what needs no
body (413, 404, 405, 503, a redirect) is answered as soon as the headers are there: the answer is
written, the sending side of the connection is closed, and what still arrives is thrown away for
up to ``LINGER_SECONDS``. Closing at once would reset the connection and lose the answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from io import BytesIO
from math import ceil
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.http import RESPONSES, datetimeToString
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from smls.errors import SmlsError
from smls.log import fault

_REQUEST_LINES = Logger(namespace="smls.requests")

LINGER_SECONDS = 2.0
"""How long a refused upload is read and thrown away before the connection is cut."""

IDLE_SECONDS = 60
"""An idle connection is closed after this; clients should drop theirs earlier."""

STATUS = {
    "bad_request": 400,
    "bad_record": 400,
    "not_found": 404,
    "model_not_found": 404,
    "method_not_allowed": 405,
    "too_large": 413,
    "bad_image": 415,
    "not_an_image": 415,
    "broken_image": 422,
    "internal": 500,
    "overloaded": 503,
    "unavailable": 503,
    "no_live_nodes": 503,
    "node_unreachable": 503,
    "registry_unavailable": 503,
    "deadline_exceeded": 504,
}
"""The HTTP status of an error's code."""


@frozen
class Answer:
    """A whole HTTP answer: status, body, and headers besides Content-Length."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()

    def write_to(self, request: Request) -> bytes:
        """Sets the answer's status and headers on ``request``; the body is left to write."""
        request.setResponseCode(self.status)
        request.setHeader("Content-Type", self.content_type)
        request.setHeader("Content-Length", str(len(self.body)))
        for name, value in self.headers:
            request.setHeader(name, value)
        return self.body


@frozen
class Head:
    """A request as far as its headers tell: all that an early answer may be decided by.

    ``length`` is the body's length in bytes, or ``None`` where it is sent in chunks.
    """

    method: str
    path: str
    query: dict[str, list[str]]
    headers: Headers
    length: int | None

    def argument(self, name: str) -> str | None:
        """The last value of the query's argument ``name``, if there is one."""
        values = self.query.get(name)
        return values[-1] if values else None


class Body(Protocol):
    """Takes a request's body as it arrives; Twisted rewinds it once it is whole."""

    def write(self, data: bytes, /) -> object: ...

    def tell(self) -> int: ...

    def seek(self, offset: int, whence: int = 0, /) -> object: ...

    def close(self) -> object: ...


Screen = Callable[[Head], Answer | None]
"""Says for a request with a body whether it is answered before the body has been read."""


def json_answer(
    value: object, status: int = 200, headers: tuple[tuple[str, str], ...] = ()
) -> Answer:
    """``value`` as a JSON answer that ends in a newline, for people with ``curl``."""
    return Answer(status, json.dumps(value).encode() + b"\n", headers=headers)


def error_answer(code: str, message: str, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """``{"error": {"code", "message"}}`` with the status of ``code``."""
    error = {"code": code, "message": message}
    return json_answer({"error": error}, STATUS.get(code, 500), headers)


def answer_for(error: SmlsError) -> Answer:
    """The answer that tells ``error``; a Retry-After is in whole seconds, rounded up."""
    headers: tuple[tuple[str, str], ...] = ()
    if error.retry_after_seconds is not None:
        headers = (("Retry-After", str(max(1, ceil(error.retry_after_seconds)))),)
    return json_answer({"error": error.to_json()}, STATUS.get(error.code, 500), headers)


def prefers_html(headers: Headers) -> bool:
    """Whether a page, rather than JSON, is wanted: browsers name ``text/html``, programs do not."""
    return any("text/html" in accept for accept in headers.getRawHeaders("accept", []))


def route_error(app: Any, method: str, path: str) -> Answer | None:
    """404 or 405 where the Klein application ``app`` has no route for the request."""
    from werkzeug.exceptions import HTTPException

    try:
        app.url_map.bind("").match(path, method)
    except HTTPException as refusal:
        return _http_error(refusal, method, path)
    return None


def errors_as_json(app: Any) -> None:
    """Makes the Klein application ``app`` answer every error as JSON, and never with a traceback.

    A fault of ours becomes a 500 whose id stands in the log beside the traceback.
    """
    from werkzeug.exceptions import HTTPException

    log = Logger(namespace="smls.web")

    @app.handle_errors(SmlsError)  # type: ignore[untyped-decorator]
    def named(request: Request, failure: Failure) -> bytes:
        error = failure.value
        assert isinstance(error, SmlsError)
        return answer_for(error).write_to(request)

    @app.handle_errors(HTTPException)  # type: ignore[untyped-decorator]
    def routing(request: Request, failure: Failure) -> bytes:
        method, path = request.method.decode("latin-1"), request.path.decode("latin-1")
        return _http_error(failure.value, method, path).write_to(request)

    @app.handle_errors(Exception)  # type: ignore[untyped-decorator]
    def ours(request: Request, failure: Failure) -> bytes:
        return answer_for(fault(log, failure)).write_to(request)


class Waiters:
    """Those who wait until a set is empty."""

    def __init__(self) -> None:
        self._waiting: list[Deferred[None]] = []

    def wait(self, members: Collection[object]) -> Deferred[None]:
        waiter: Deferred[None] = Deferred()
        self._waiting.append(waiter)
        self.tell(members)
        return waiter

    def tell(self, members: Collection[object]) -> None:
        if not members:
            waiting, self._waiting = self._waiting, []
            for waiter in waiting:
                waiter.callback(None)


class LimitedRequest(Request):
    """A request whose refusal needs no body, and whose body stays within a bound."""

    site: LimitedSite
    content: Any
    started: float = 0.0
    read_seconds: float = 0.0
    received: int = 0
    _refused: bool = False
    _linger: IDelayedCall | None = None

    def gotLength(self, length: int | None) -> None:
        super().gotLength(length)  # type: ignore[no-untyped-call]
        self.site = self.channel.factory
        self.started = self.site.clock.seconds()
        # Before the body is there, Twisted keeps the request line on the channel alone.
        head = _head(self.channel._command, self.channel._path, self.requestHeaders, length)
        answer = self.site.early_answer(head) if length != 0 else None
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
        else:
            super().handleContentChunk(data)  # type: ignore[no-untyped-call]

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if self._refused:
            # The whole body has come, so nothing unread can reset the connection.
            self.channel.loseConnection()
        else:
            self.read_seconds = self.age()
            super().requestReceived(command, path, version)  # type: ignore[no-untyped-call]

    def finish(self) -> None:
        super().finish()  # type: ignore[no-untyped-call]
        self.site.request_done(self)

    def connectionLost(self, reason: Failure) -> None:
        if self._linger is not None and self._linger.active():
            self._linger.cancel()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self.site.request_done(self)

    def age(self) -> float:
        """Seconds since the request's headers were there."""
        return self.site.clock.seconds() - self.started

    def head(self) -> Head:
        """The request's head, once it is processed."""
        return _head(self.method, self.uri, self.requestHeaders, self.received)

    def summary(self) -> str:
        """The request and its peer in a few words, whether or not its body is there yet."""
        method = getattr(self.channel, "_command", self.method).decode("latin-1")
        path = getattr(self.channel, "_path", self.uri).decode("latin-1")
        return f"{method} {path} from {self.channel.getPeer()}, {self.age():.1f} s old"

    def _refuse(self, answer: Answer) -> None:
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
        channel.writeHeaders(
            b"HTTP/1.1",
            b"%d" % answer.status,
            RESPONSES.get(answer.status, b"Refused"),
            _headers(answer),
        )
        channel.write(answer.body)
        transport = channel.transport
        half_close = getattr(transport, "loseWriteConnection", None)
        if half_close is not None:
            half_close()
        channel.setTimeout(None)
        self._linger = self.site.clock.callLater(LINGER_SECONDS, channel.loseConnection)
        self.site.log(self)


class LimitedChannel(http.HTTPChannel):
    """An HTTP/1.1 connection that its site knows of, so that it can be closed with the site."""

    factory: LimitedSite

    def connectionMade(self) -> None:
        super().connectionMade()  # type: ignore[no-untyped-call]
        self.factory.connections.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.connection_lost(self)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]


class LimitedSite(Site):
    """A site of ``LimitedRequest``s: bodies in memory up to ``max_body`` bytes, one line a request.

    ``screen`` sees the head of each request that has a body and may answer it at once.
    ``body_for`` makes what a body is written to as it arrives, a ``BytesIO`` where left out.
    Form bodies are left to the faces: Twisted's own form parsing blocks the reactor.
    """

    protocol = LimitedChannel  # type: ignore[assignment]
    noisy = False

    def __init__(
        self,
        resource: IResource,
        clock: IReactorTime,
        *,
        max_body: int,
        screen: Screen,
        body_for: Callable[[Head], Body] | None = None,
        idle_seconds: float = IDLE_SECONDS,
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
        self.connections: set[LimitedChannel] = set()
        self.in_flight: set[LimitedRequest] = set()
        self._screen = screen
        self._body_for = body_for
        self._idle = Waiters()
        self._closed = Waiters()

    def getContentFile(self, length: int | None) -> BytesIO:
        return BytesIO()

    def body(self, head: Head) -> Body:
        """What the body of the request is written to as it arrives."""
        return BytesIO() if self._body_for is None else self._body_for(head)

    def when_idle(self) -> Deferred[None]:
        """Fires as soon as no request is in flight: none half received, none unanswered."""
        return self._idle.wait(self.in_flight)

    def close_connections(self) -> Deferred[None]:
        """Closes each connection once what was written to it is sent; fires when all are gone."""
        for channel in list(self.connections):
            channel.loseConnection()  # type: ignore[no-untyped-call]
        return self._closed.wait(self.connections)

    def request_done(self, request: LimitedRequest) -> None:
        """The request was answered, or its connection is gone."""
        self.in_flight.discard(request)
        self._idle.tell(self.in_flight)

    def connection_lost(self, channel: LimitedChannel) -> None:
        self.connections.discard(channel)
        self._closed.tell(self.connections)

    def early_answer(self, head: Head) -> Answer | None:
        answer = self._screen(head)
        if answer is None and head.length is not None and head.length > self.max_body:
            return self.too_large()
        return answer

    def too_large(self) -> Answer:
        return error_answer(
            "too_large", f"the body has more than the {self.max_body} bytes that are allowed"
        )

    def log(self, request: http.Request) -> None:
        assert isinstance(request, LimitedRequest)
        peer = request.channel.getPeer()
        _REQUEST_LINES.info(
            "{method} {path} {status} {milliseconds:.1f} ms",
            method=request.method.decode("latin-1"),
            path=request.uri.decode("latin-1"),
            status=request.code,
            milliseconds=request.age() * 1000,
            peer=getattr(peer, "host", ""),
            sent=request.sentLength,
        )


def _head(method: bytes, uri: bytes, headers: Headers, length: int | None) -> Head:
    path, _, query = uri.decode("latin-1").partition("?")
    return Head(
        method.decode("latin-1"),
        unquote(path),
        parse_qs(query, keep_blank_values=True),
        headers,
        length,
    )


def _headers(answer: Answer) -> Headers:
    headers = Headers({"Connection": ["close"]})
    headers.addRawHeader("Date", datetimeToString().decode("ascii"))
    headers.addRawHeader("Content-Type", answer.content_type)
    headers.addRawHeader("Content-Length", str(len(answer.body)))
    for name, value in answer.headers:
        headers.addRawHeader(name, value)
    return headers


def _http_error(refusal: Any, method: str, path: str) -> Answer:
    if refusal.code == 405:
        allowed = ", ".join(sorted(refusal.valid_methods or ()))
        return error_answer(
            "method_not_allowed",
            f"{path} does not take {method}; it takes {allowed}",
            headers=(("Allow", allowed),),
        )
    if refusal.code == 404:
        return error_answer("not_found", f"there is nothing at {path}")
    return error_answer("bad_request", f"{method} {path}: {refusal.name}")
