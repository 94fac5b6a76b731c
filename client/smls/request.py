# SPDX-License-Identifier: MIT
"""A request whose refusal needs no body, and whose body stays within a bound.

A client in the middle of a large upload must still be able to read a refusal. So what needs no
body (413, 404, 405, 503, a redirect) is answered as soon as the headers are there: the answer is
written, the sending side of the connection is closed, and what still arrives is thrown away for
up to ``LINGER_SECONDS``. Closing at once would reset the connection and lose the answer.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure
from twisted.web.http import RESPONSES
from twisted.web.server import Request

from smls.errors import Overloaded, SmlsError
from smls.inflate import Inflate
from smls.log import fault
from smls.web import Answer, Head, answer_for, error_answer, is_packed, origin_form
from smls.web import log as faults

if TYPE_CHECKING:
    from smls.channel import LimitedChannel
    from smls.site import LimitedSite

LINGER_SECONDS = 2.0
"""How long a refused upload is read and thrown away before the connection is cut."""

RETRY_ARRIVING_SECONDS = 2.0


class Body(Protocol):
    """Takes a request's body as it arrives; Twisted rewinds it once it is whole."""

    def write(self, data: bytes, /) -> object: ...

    def tell(self) -> int: ...

    def seek(self, offset: int, whence: int = 0, /) -> object: ...

    def close(self) -> object: ...


class LimitedRequest(Request):
    """A request whose refusal needs no body, and whose body stays within a bound.

    ``started`` is when its headers were there, ``read_seconds`` how long its body then took.
    ``received`` bytes of its body are there, as it was sent, and ``missing`` are known to come.
    ``answering`` is cancelled where the client leaves.
    """

    site: LimitedSite
    content: Any
    started: float = 0.0
    read_seconds: float = 0.0
    received: int = 0
    missing: int = 0
    answering: Deferred[None] | None = None
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
        self.missing = length or 0
        # Before the body is there, Twisted keeps the request line on the channel alone.
        self.channel._path = origin_form(self.channel._path)
        head = Head.of(self.channel._command, self.channel._path, self.requestHeaders, length)
        self._head = head
        for name, value in self.site.cors(head):
            self.responseHeaders.setRawHeaders(name, [value])
        if length != 0 and is_packed(head):
            self._inflate = Inflate(self.site.max_body)
        answer = self.site.early_answer(head)
        if answer is not None:
            self._refuse(answer)
        else:
            self.content = self.site.body(head)
            self.site.in_flight.add(self)

    def handleContentChunk(self, data: bytes) -> None:
        self.received += len(data)
        self.missing = max(0, self.missing - len(data))
        if self._refused:
            return
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
        if self.answering is not None:
            self.answering.cancel()

    def processingFailed(self, reason: Failure) -> Failure:
        """Answers a fault that no face has caught."""
        self._tell(answer_for(fault(faults, reason)))
        return reason

    @property
    def is_open(self) -> bool:
        """Whether it is neither answered nor refused, and its client is there."""
        return self in self.site.in_flight

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
