# SPDX-License-Identifier: MIT
"""One request over HTTP/1.1, with its deadline, on connections that are kept.

The laws of the kept connections:

- A connection is kept for ``IDLE_SECONDS``, less than a server keeps its end, so that a request
  seldom meets a connection which is just being closed.
- Where it does, and nothing of an answer came, the request goes out once more on a fresh
  connection, which is not kept. Twisted itself repeats no POST.
- A request that was cancelled or timed out closes its connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from socket import SOCK_STREAM, getaddrinfo
from typing import Any

from attrs import frozen
from treq.client import HTTPClient
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionRefusedError,
    DNSLookupError,
)
from twisted.internet.interfaces import IConsumer, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.web.client import (
    URI,
    Agent,
    HTTPConnectionPool,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from smls.errors import NodeRefused, NodeUnreachable
from smls.kept import close_kept

CONNECT_SECONDS = 1.0
"""A machine that has not accepted a connection by then is most likely gone."""

IDLE_SECONDS = 30.0
"""Half of the time for which ``smls.web`` keeps an idle connection."""

KEPT_PER_HOST = 1024
"""No bound in practice: as many connections are kept as calls were in flight."""

MAX_ANSWER = 64 * 1024 * 1024
"""Bytes of an answer that are read; a listing of a thousand nodes has less than one MB."""

_NOTHING_CAME = (RequestTransmissionFailed, ResponseNeverReceived)


@frozen
class Reply:
    """A whole answer."""

    status: int
    headers: Headers
    body: bytes

    def header(self, name: str) -> str | None:
        """The last value of the header ``name``, if there is one."""
        values = self.headers.getRawHeaders(name)
        return values[-1] if values else None


class Transport:
    """Sends requests, and keeps connections for the next ones until it is closed."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._kept = HTTPConnectionPool(reactor)
        self._kept.maxPersistentPerHost = KEPT_PER_HOST
        self._kept.cachedConnectionTimeout = IDLE_SECONDS  # type: ignore[assignment]
        self._kept.retryAutomatically = False
        self._fresh = HTTPConnectionPool(reactor, persistent=False)

    def request(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float | None,
    ) -> Deferred[Reply]:
        """The answer to one request, whatever its status; redirects are not followed.

        Cancelling the Deferred cuts the request off.

        :raises NodeRefused: where there was no connection, so that nothing was sent.
        :raises NodeUnreachable: where no answer came (within ``timeout_seconds``), saying why.
        """
        sent = dict(headers or {})
        if body is not None:
            sent.setdefault("Content-Type", "application/octet-stream")
        call = Deferred.fromCoroutine(self._request(method, url, body, sent))
        if timeout_seconds is not None:
            message = f"did not answer within {timeout_seconds:.3g} s"
            call.addTimeout(
                timeout_seconds, self._reactor, lambda _, __: Failure(NodeUnreachable(message))
            )
        return call

    def open(
        self, url: str, headers: Mapping[str, str], *, timeout_seconds: float
    ) -> Deferred[IResponse]:
        """The head of an answer that stays open, on a connection of its own; see ``smls.stream``.

        :raises NodeUnreachable: where it did not come within ``timeout_seconds``, saying why.
        """
        call = Deferred.fromCoroutine(self._open(url, headers))
        message = f"did not answer within {timeout_seconds:.3g} s"
        return call.addTimeout(
            timeout_seconds, self._reactor, lambda _, __: Failure(NodeUnreachable(message))
        )

    def close(self) -> Deferred[None]:
        """Closes the connections that are kept; the Deferred fires when they are closed."""
        return close_kept(self._kept)

    async def _request(
        self, method: str, url: str, body: bytes | None, headers: dict[str, str]
    ) -> Reply:
        try:
            try:
                return await self._send(method, url, body, headers, self._kept)
            except _StaleConnection:
                return await self._send(method, url, body, headers, self._fresh)
        except Exception as error:
            if _cancelled(error):
                raise CancelledError from error
            kind = NodeRefused if _refused(error) else NodeUnreachable
            raise kind(_reason(error)) from error

    async def _open(self, url: str, headers: Mapping[str, str]) -> IResponse:
        agent = Agent.usingEndpointFactory(self._reactor, _Endpoints(self._reactor), self._fresh)
        raw = Headers({name: [value] for name, value in headers.items()})
        try:
            response: IResponse = await agent.request(b"GET", url.encode("ascii"), raw)
        except Exception as error:
            if _cancelled(error):
                raise CancelledError from error
            raise NodeUnreachable(_reason(error)) from error
        return response

    async def _send(
        self,
        method: str,
        url: str,
        body: bytes | None,
        headers: dict[str, str],
        pool: HTTPConnectionPool,
    ) -> Reply:
        endpoints = _Endpoints(self._reactor)
        agent = Agent.usingEndpointFactory(self._reactor, endpoints, pool)
        client = HTTPClient(_At(agent, url), data_to_body_producer=_Body)
        try:
            response = await client.request(
                method,
                "http://node",
                headers=headers,  # type: ignore[arg-type]
                data=body or None,
                allow_redirects=False,
                unbuffered=True,
                reactor=self._reactor,
            )
        except _NOTHING_CAME as error:
            if endpoints.connected or _cancelled(error):
                raise
            raise _StaleConnection from error
        return Reply(response.code, response.headers, await _read(response.original))


class _StaleConnection(Exception):
    """A kept connection proved dead before anything of an answer came."""


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """Endpoints of one request; ``connected`` tells whether one of them had to connect."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.connected = False

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        host = uri.host.decode("ascii").strip("[]")
        # An address needs no resolver, and so no thread.
        if isIPAddress(host) or isIPv6Address(host):
            return _Endpoint(self, _address_endpoint(self._reactor, host, uri.port))
        return _Endpoint(self, _NameEndpoint(self._reactor, host, uri.port))

    def connect(self, endpoint: Any, factory: IProtocolFactory) -> Deferred[Any]:
        self.connected = True
        message = f"did not accept a connection within {CONNECT_SECONDS:g} s"
        # A timeout of our own, because looking a name up counts as well.
        connecting: Deferred[Any] = endpoint.connect(factory)
        return connecting.addTimeout(
            CONNECT_SECONDS, self._reactor, lambda _, __: Failure(NodeRefused(message))
        )


@implementer(IAgent)
@frozen
class _At:
    """Requests at ``url``, whatever else is asked for: treq itself takes no IPv6 addresses."""

    agent: Agent
    url: str

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        return self.agent.request(method, self.url.encode("ascii"), headers, bodyProducer)


@implementer(IStreamClientEndpoint)
@frozen
class _Endpoint:
    owner: _Endpoints
    endpoint: Any

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        return self.owner.connect(self.endpoint, protocolFactory)


def _address_endpoint(reactor: Any, host: str, port: int, seconds: float = 30) -> Any:
    kind = TCP6ClientEndpoint if isIPv6Address(host) else TCP4ClientEndpoint
    return kind(reactor, host, port, seconds)


@implementer(IStreamClientEndpoint)
@frozen
class _NameEndpoint:
    """Tries the addresses of a name in turn; Twisted's own would import the global reactor."""

    reactor: Any
    host: str
    port: int

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> Any:
        try:
            found = await deferToThreadPool(
                self.reactor,
                self.reactor.getThreadPool(),
                getaddrinfo,
                self.host,
                self.port,
                type=SOCK_STREAM,
            )
        except OSError as error:
            raise DNSLookupError(str(error)) from error
        addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
        refusal = ConnectError()
        for address in addresses:
            share = CONNECT_SECONDS / len(addresses)
            try:
                return await _address_endpoint(self.reactor, address, self.port, share).connect(
                    factory
                )
            except ConnectError as error:
                refusal = error
        raise refusal


@implementer(IBodyProducer)
class _Body:
    """A request's body that is in memory: Twisted's own producer would use the global reactor."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        pass

    def resumeProducing(self) -> None:
        pass

    def stopProducing(self) -> None:
        pass


class _Collector(Protocol):
    """Collects an answer's body, up to ``MAX_ANSWER``."""

    def __init__(self) -> None:
        self.body: Deferred[bytes] = Deferred(lambda _: self._cut_off())
        self._chunks: list[bytes] = []
        self._received = 0

    def dataReceived(self, data: bytes) -> None:
        self._chunks.append(data)
        self._received += len(data)
        if self._received > MAX_ANSWER and not self.body.called:
            self._cut_off()
            self.body.errback(NodeUnreachable(f"its answer has more than {MAX_ANSWER} bytes"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.body.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.body.callback(b"".join(self._chunks))
        else:
            self.body.errback(reason)

    def _cut_off(self) -> None:
        self._chunks = []
        if self.transport is not None:
            self.transport.loseConnection()


def _read(response: IResponse) -> Deferred[bytes]:
    collector = _Collector()
    response.deliverBody(collector)
    return collector.body


def _causes(error: BaseException) -> list[BaseException]:
    """``error`` and what it wraps: Twisted tells a lost connection as a list of reasons."""
    found = [error]
    for reason in getattr(error, "reasons", None) or ():
        found += _causes(reason.value)
    return found


def _cancelled(error: BaseException) -> bool:
    return any(isinstance(one, CancelledError | ConnectingCancelledError) for one in _causes(error))


def _refused(error: BaseException) -> bool:
    """Whether nothing of the request was sent, for there was no connection."""
    return any(isinstance(one, NodeRefused | ConnectError) for one in _causes(error))


def _reason(error: Exception) -> str:
    for cause in _causes(error):
        if isinstance(cause, NodeUnreachable):
            return cause.message
    if isinstance(error, ConnectionRefusedError):
        return "refused the connection"
    if isinstance(error, DNSLookupError):
        return "its name cannot be looked up"
    if isinstance(error, ConnectError):
        return f"cannot be reached: {error}"
    if isinstance(error, _NOTHING_CAME):
        return "closed the connection without an answer"
    if isinstance(error, ResponseFailed):
        return "broke off its answer, or speaks no HTTP"
    return f"the request failed: {error!r}"
