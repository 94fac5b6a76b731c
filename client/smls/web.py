# SPDX-License-Identifier: MIT
"""What node and registry both need of an HTTP server: early answers, JSON errors, request lines.

A client in the middle of a large upload must still be able to read a refusal. So what needs no
body (413, 404, 405, 503, a redirect) is answered as soon as the headers are there: the answer is
written, the sending side of the connection is closed, and what still arrives is thrown away for
up to ``LINGER_SECONDS``. Closing at once would reset the connection and lose the answer.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, quote, unquote, unquote_to_bytes

from attrs import frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.http import RESPONSES, datetimeToString
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from smls.errors import SmlsError

LINGER_SECONDS = 2.0
"""How long a refused upload is read and thrown away before the connection is cut."""

IDLE_SECONDS = 60
"""An idle connection is closed after this; clients should drop theirs earlier."""

CLOSE_SECONDS = 1.0
"""How long a connection that is being closed may take to send what was written to it."""

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

    ``length`` is the body's length in bytes, or ``None`` where it is sent in chunks. ``target``
    is path and query as they were sent, fit for a redirect's Location.
    """

    method: str
    path: str
    query: dict[str, list[str]]
    headers: Headers
    length: int | None
    target: str = "/"

    def argument(self, name: str) -> str | None:
        """The last value of the query's argument ``name``, if there is one."""
        values = self.query.get(name)
        return values[-1] if values else None


# As a class's attribute, a logger would get the class's name for its namespace.
_log = Logger(namespace="smls.web")
_requests_log = Logger(namespace="smls.requests")

Screen = Callable[[Head], Answer | None]
"""Says for a request with a body whether it is answered before the body has been read."""


def json_answer(
    value: object, status: int = 200, headers: tuple[tuple[str, str], ...] = ()
) -> Answer:
    """``value`` as a JSON answer that ends in a newline, for people with ``curl``."""
    return Answer(status, json.dumps(value).encode() + b"\n", headers=headers)


def error_answer(
    code: str,
    message: str,
    *,
    retry_after_seconds: float | None = None,
    headers: tuple[tuple[str, str], ...] = (),
) -> Answer:
    """``{"error": {"code", "message"}}`` with the status of ``code``.

    A Retry-After is in whole seconds, rounded up.
    """
    if retry_after_seconds is not None:
        headers = (*headers, ("Retry-After", str(max(1, -int(-retry_after_seconds // 1)))))
    return json_answer(
        {"error": {"code": code, "message": message}}, STATUS.get(code, 500), headers
    )


def answer_for(error: SmlsError) -> Answer:
    """The answer that tells ``error``."""
    return error_answer(error.code, error.message, retry_after_seconds=error.retry_after_seconds)


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

    def named(request: Request, failure: Failure) -> bytes:
        error = failure.value
        assert isinstance(error, SmlsError)
        return answer_for(error).write_to(request)

    def routing(request: Request, failure: Failure) -> bytes:
        method, path = request.method.decode("latin-1"), request.path.decode("latin-1")
        return _http_error(failure.value, method, path).write_to(request)

    def ours(request: Request, failure: Failure) -> bytes:
        fault = fault_answer(_log, failure)
        return fault.write_to(request)

    # Klein passes the instance first, but only where the application is bound to one.
    app.handle_errors(SmlsError)(lambda *given: named(*given[-2:]))
    app.handle_errors(HTTPException)(lambda *given: routing(*given[-2:]))
    app.handle_errors(Exception)(lambda *given: ours(*given[-2:]))


def fault_answer(log: Logger, failure: Failure) -> Answer:
    """A 500 for a fault of ours; the traceback goes to ``log`` with the id that the answer has."""
    fault_id = secrets.token_hex(6)
    log.failure("fault {fault_id}", failure, fault_id=fault_id)
    return error_answer("internal", f"a fault of the server; its log has it as {fault_id}")


class LimitedRequest(Request):
    """A request whose refusal needs no body, and whose body stays within a bound."""

    site: LimitedSite
    started: float = 0.0
    received: int = 0
    _refused: bool = False
    _linger: IDelayedCall | None = None

    def gotLength(self, length: int | None) -> None:
        super().gotLength(length)  # type: ignore[no-untyped-call]
        self.site = self.channel.factory
        self.started = self.site.clock.seconds()
        answer = self.site.early_answer(self._head(length))
        if answer is not None:
            self._refuse(answer)

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
            super().requestReceived(command, path, version)  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure) -> None:
        if self._linger is not None and self._linger.active():
            self._linger.cancel()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def getRequestHostname(self) -> bytes:
        # Klein gives up on a Host header that is no host name, and no route depends on it.
        return b"localhost"

    def processingFailed(self, reason: Failure) -> Failure:
        """Answers a fault that no face has caught."""
        body = fault_answer(_log, reason).write_to(self)
        self.write(body)  # type: ignore[no-untyped-call]
        self.finish()  # type: ignore[no-untyped-call]
        return reason

    def head(self) -> Head:
        """The request's head, once it is processed."""
        return _head(self.method, self.uri, self.requestHeaders, self.received)

    def body(self) -> bytes:
        """The request's whole body, once it is processed."""
        assert self.content is not None
        self.content.seek(0)
        return bytes(self.content.read())

    def _head(self, length: int | None) -> Head:
        # Before the body is there, Twisted keeps the request line on the channel alone.
        return _head(self.channel._command, self.channel._path, self.requestHeaders, length)

    def _refuse(self, answer: Answer) -> None:
        self._refused = True
        self.content = BytesIO()
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
    """A connection of a ``LimitedSite``, which knows it while it is open."""

    site: LimitedSite

    def connectionMade(self) -> None:
        self.site.channels.add(self)
        super().connectionMade()  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self.site.forget(self)

    def lineLengthExceeded(self, line: bytes) -> None:
        self._respondToBadRequestAndDisconnect()

    def _respondToBadRequestAndDisconnect(self) -> None:
        # Twisted's own answer to what is no HTTP has neither a body nor a Content-Type.
        answer = error_answer("bad_request", "what was sent is no HTTP request that is understood")
        self.writeHeaders(b"HTTP/1.1", b"400", RESPONSES[400], _headers(answer))  # type: ignore[no-untyped-call]
        self.write(answer.body)  # type: ignore[no-untyped-call]
        self.loseConnection()  # type: ignore[no-untyped-call]


class LimitedSite(Site):
    """A site of ``LimitedRequest``s: bodies in memory up to ``max_body`` bytes, one line a request.

    ``screen`` sees the head of each request that has a body and may answer it at once.
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
        self.channels: set[LimitedChannel] = set()
        self._screen = screen
        self._closed: Deferred[None] | None = None

    def close_connections(self) -> Deferred[None]:
        """Closes the open connections, and fires when none is left: to be called once, at the end.

        What was written is still sent, for up to ``CLOSE_SECONDS``.
        """
        if not self.channels:
            return succeed(None)
        closed: Deferred[None] = Deferred()
        self._closed = closed
        late = self.clock.callLater(CLOSE_SECONDS, self._abort_connections)
        closed.addCallback(lambda _: late.cancel() if late.active() else None)
        for channel in list(self.channels):
            channel.loseConnection()  # type: ignore[no-untyped-call]
        return closed

    def forget(self, channel: LimitedChannel) -> None:
        """Notes that ``channel`` is gone."""
        self.channels.discard(channel)
        if self._closed is not None and not self.channels:
            closed, self._closed = self._closed, None
            closed.callback(None)

    def _abort_connections(self) -> None:
        for channel in list(self.channels):
            transport: Any = channel.transport
            transport.abortConnection()

    def getContentFile(self, length: int | None) -> BytesIO:
        return BytesIO()

    def early_answer(self, head: Head) -> Answer | None:
        """The answer to a request that needs no body, from its head."""
        if not _is_text(head.target):
            return error_answer("bad_request", "the path is not UTF-8")
        if head.length == 0:
            return None
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
        _requests_log.info(
            "{method} {path} {status} {milliseconds:.1f} ms",
            method=request.method.decode("latin-1"),
            path=request.uri.decode("latin-1"),
            status=request.code,
            milliseconds=(self.clock.seconds() - request.started) * 1000,
            peer=getattr(peer, "host", ""),
            sent=request.sentLength,
        )


def _is_text(target: str) -> bool:
    try:
        unquote_to_bytes(target.partition("?")[0]).decode()
    except UnicodeDecodeError:
        return False
    return True


def _head(method: bytes, uri: bytes, headers: Headers, length: int | None) -> Head:
    target = quote(uri, safe=_PRINTABLE)
    path, _, query = target.partition("?")
    return Head(
        method.decode("latin-1"),
        unquote(path),
        parse_qs(query, keep_blank_values=True),
        headers,
        length,
        target,
    )


_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


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
    # A redirect is how werkzeug says that doubled slashes would have to go.
    if refusal.code in (404, 308):
        return error_answer("not_found", f"there is nothing at {path}")
    return error_answer("bad_request", f"{method} {path}: {refusal.name}")
