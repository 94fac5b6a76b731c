# SPDX-License-Identifier: MIT
"""etcd's JSON gateway: calls to whichever endpoint answers, and watches.

In its JSON, keys and values are base64, whole numbers of 64 bits are strings, and what is empty,
zero or false is left out.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import treq
from attrs import field, frozen
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.iweb import IPolicyForHTTPS

from smls.errors import SmlsError, Unavailable
from smls.kept import close_kept

CONNECT_SECONDS = 1.0
"""An endpoint that does not accept by then is most likely gone."""

CALL_SECONDS = 2.0
"""An election takes about one second; whoever takes longer is passed over for the next."""

SILENCE_SECONDS = 15.0
"""A partition is silence: a watch that hears nothing for so long, heartbeats neither, is dead."""

RETRY_AFTER_SECONDS = 1.0
"""etcd is back within about one election, as a rule."""

LEASE_GONE = 5
"""gRPC's NOT_FOUND."""

LEASE_EXISTS = 9
"""gRPC's FAILED_PRECONDITION: what etcd says of a lease id that is taken."""

_AWAY = frozenset({2, 4, 8, 13, 14})
"""gRPC's codes for an endpoint that cannot answer now: no leader, no space, timed out, stopped."""

_TOKEN = frozenset({"etcdserver: invalid auth token", "etcdserver: user name is empty"})

_MAX_LINE = 64 * 1024 * 1024

Message = Mapping[str, Any]


@frozen
class Cluster:
    """Where an etcd cluster is, and as whom to speak to it."""

    endpoints: tuple[str, ...]
    user: str = ""
    password: str = field(default="", repr=False)
    policy: IPolicyForHTTPS | None = None


class Refused(SmlsError):
    """etcd understood, and said no; ``status`` is gRPC's."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class WatchEnded(Unavailable):
    """A watch broke, fell silent or was cancelled: what came since must be read anew."""


class _Away(Exception):
    """One endpoint did not answer."""


class Gateway:
    """Speaks to ``cluster``; starts with the first endpoint and stays with one that answers."""

    def __init__(self, reactor: Any, cluster: Cluster) -> None:
        self._reactor = reactor
        self._cluster = cluster
        self._endpoints = deque(cluster.endpoints)
        self._token = ""
        self._pool = HTTPConnectionPool(reactor)
        self._calls = self._agent(self._pool)
        self._watches = self._agent(HTTPConnectionPool(reactor, persistent=False))

    async def call(self, path: str, message: Message) -> dict[str, Any]:
        """The answer to ``message``, such as for ``/v3/kv/range``.

        :raises Refused: where etcd says no.
        :raises Unavailable: where no endpoint answers.
        """
        reasons = []
        for endpoint in list(self._endpoints):
            try:
                return await self._authorised(endpoint, path, message)
            except _Away as error:
                self.pass_over(endpoint)
                reasons.append(f"{endpoint}: {error}")
        raise Unavailable(
            f"no etcd answers ({'; '.join(reasons)})", retry_after_seconds=RETRY_AFTER_SECONDS
        )

    async def watch(self, request: Message, heard: Callable[[dict[str, Any]], None]) -> None:
        """Calls ``heard`` with each result of a watch.

        :raises WatchEnded: in the end, whatever ended it.
        """
        endpoint = self._endpoints[0]
        lines = _Lines(self._reactor, heard)
        try:
            body = json.dumps({"create_request": request}).encode()
            asking: Deferred[Any] = Deferred.fromCoroutine(
                self._send(self._watches, endpoint, "/v3/watch", body)
            )
            response = await asking.addTimeout(CALL_SECONDS, self._reactor)
            response.original.deliverBody(lines)
            await lines.ended
        except CancelledError:
            lines.cut_off()
            raise
        except Exception as error:
            self.pass_over(endpoint)
            raise WatchEnded(
                f"the watch at {endpoint} ended: {_reason(error)}",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            ) from error

    def pass_over(self, endpoint: str) -> None:
        """Tries another endpoint first, next time."""
        if self._endpoints[0] == endpoint:
            self._endpoints.rotate(-1)

    def close(self) -> Deferred[None]:
        """Closes the connections that are kept."""
        return close_kept(self._pool)

    async def _authorised(self, endpoint: str, path: str, message: Message) -> dict[str, Any]:
        if self._cluster.user and not self._token:
            await self._authenticate(endpoint)
        try:
            return await self._post(endpoint, path, message)
        except Refused as refused:
            # Tokens run out, and an etcd that was restarted has forgotten them.
            if not self._cluster.user or refused.message not in _TOKEN:
                raise
        await self._authenticate(endpoint)
        return await self._post(endpoint, path, message)

    async def _authenticate(self, endpoint: str) -> None:
        self._token = ""
        who = {"name": self._cluster.user, "password": self._cluster.password}
        self._token = (await self._post(endpoint, "/v3/auth/authenticate", who))["token"]

    async def _post(self, endpoint: str, path: str, message: Message) -> dict[str, Any]:
        calling: Deferred[tuple[int, bytes]] = Deferred.fromCoroutine(
            self._read(endpoint, path, json.dumps(message).encode())
        )
        try:
            status, body = await calling.addTimeout(CALL_SECONDS, self._reactor)
            answer: dict[str, Any] = json.loads(body)
        except CancelledError:
            raise
        except Exception as error:
            raise _Away(_reason(error)) from error
        if status == 200:
            return answer
        said, code = str(answer.get("message") or answer.get("error")), answer.get("code")
        if not isinstance(code, int) or code in _AWAY:
            raise _Away(said)
        raise Refused(said, code)

    async def _read(self, endpoint: str, path: str, body: bytes) -> tuple[int, bytes]:
        response = await self._send(self._calls, endpoint, path, body)
        return response.code, await treq.content(response)

    async def _send(self, client: Any, endpoint: str, path: str, body: bytes) -> Any:
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = self._token
        return await client.request(
            "POST", f"{endpoint}{path}", data=body, headers=headers, unbuffered=True
        )

    def _agent(self, pool: HTTPConnectionPool) -> Any:
        policy = {} if self._cluster.policy is None else {"contextFactory": self._cluster.policy}
        return HTTPClient(Agent(self._reactor, connectTimeout=CONNECT_SECONDS, pool=pool, **policy))


class _Lines(Protocol):
    """Reads a stream of JSON lines; ``ended`` fails in the end."""

    def __init__(self, reactor: Any, heard: Callable[[dict[str, Any]], None]) -> None:
        self.ended: Deferred[None] = Deferred()
        self._reactor = reactor
        self._heard = heard
        self._rest = b""
        self._silence: IDelayedCall | None = None

    def connectionMade(self) -> None:
        self._silence = self._reactor.callLater(SILENCE_SECONDS, self._silent)

    def dataReceived(self, data: bytes) -> None:
        assert self._silence is not None
        if self.ended.called:
            return
        self._silence.reset(SILENCE_SECONDS)
        *lines, self._rest = (self._rest + data).split(b"\n")
        try:
            if len(self._rest) > _MAX_LINE:
                raise ValueError(f"a message has more than {_MAX_LINE} bytes")
            for line in lines:
                message = json.loads(line)
                if "result" not in message:
                    raise ValueError(f"etcd said {message}")
                self._heard(message["result"])
        except Exception:
            self._end(Failure())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end(reason)

    def cut_off(self) -> None:
        """Ends it, and tells nobody."""
        self.ended.addErrback(lambda _: None)
        self._end(Failure(CancelledError()))

    def _silent(self) -> None:
        self._end(Failure(TimeoutError(f"nothing was heard for {SILENCE_SECONDS:g} s")))

    def _end(self, reason: Failure) -> None:
        if self._silence is not None and self._silence.active():
            self._silence.cancel()
        if self.transport is not None:
            self.transport.loseConnection()
        if not self.ended.called:
            self.ended.errback(reason)


def encoded(text: str) -> str:
    """``text`` as a key or a value is sent."""
    return b64encode(text.encode()).decode("ascii")


def decoded(value: str) -> str:
    """The text of a key or a value that was sent."""
    return b64decode(value).decode(errors="replace")


def number(message: Message, name: str) -> int:
    """The whole number ``name`` of ``message``; 0 where it is left out."""
    return int(message.get(name, 0))


def _reason(error: BaseException) -> str:
    inner = getattr(error, "reasons", None)
    if inner:
        return _reason(inner[0].value)
    return str(error) or type(error).__name__
