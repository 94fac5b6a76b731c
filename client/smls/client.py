# SPDX-License-Identifier: MIT
"""The client: pick a node, send the image straight to it, go elsewhere where that fails."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar
from urllib.parse import urlencode

from twisted.internet.defer import CancelledError, Deferred, fail, gatherResults, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from smls.balancer import Balancer, RoundRobin
from smls.directory import Directory, FixedNodes, RegistryDirectory, node_address
from smls.errors import (
    BadRequest,
    ClientClosed,
    DeadlineExceeded,
    ModelNotFound,
    NodeFault,
    NodeUnreachable,
    Overloaded,
    RequestError,
    SmlsError,
    Unavailable,
)
from smls.folders import cache_folder
from smls.health import Suspects
from smls.remembered import Remembered
from smls.results import Classification, read_classification, read_error
from smls.transport import Transport
from smls.wire import NodeRecord, registry_url

T = TypeVar("T")

TIMEOUT_SECONDS = 30.0
"""How long a call may take where nothing else is said: a cold model may have to load first."""

SUSPECT_SECONDS = 5.0
"""A node that did not answer comes last for so long."""


class Readable(Protocol):
    """A file that was opened for reading bytes."""

    def read(self) -> bytes: ...


Image = str | PathLike[str] | bytes | bytearray | memoryview | Readable
"""What ``classify`` takes: the path of a file, the bytes of one, or an open one."""

Cache = bool | str | PathLike[str]
"""Whether the last known nodes are kept on disk, or the folder where they are."""


def read_image(image: Image) -> bytes:
    """The bytes of ``image``, read from disk where it is a path or a file.

    :raises OSError: where the file cannot be read.
    :raises BadRequest: where it is nothing that holds bytes.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | PathLike):
        return Path(image).read_bytes()
    content = image.read() if hasattr(image, "read") else image
    if not isinstance(content, bytes):
        raise BadRequest(
            f"image: got {type(content).__name__}, wanted a path, bytes or a file opened as binary"
        )
    return content


def check_places(registries: Iterable[str | Iterable[str]], nodes: Iterable[str]) -> list[str]:
    """The registries' URLs, one flat list; empty where ``nodes`` are named instead.

    :raises BadRequest: where one of the addresses is malformed, or neither kind or both are named.
    """
    flat = [
        registry_url(url)
        for given in registries
        for url in ([given] if isinstance(given, str) else given)
    ]
    direct = [node_address(node) for node in nodes]
    if bool(flat) == bool(direct):
        raise BadRequest(
            "name a registry, as in Client('http://HOST:PORT'), "
            "or nodes, as in Client(nodes=['HOST:PORT']), and not both"
        )
    return flat


class Client:
    """Classifies images on the nodes that a registry lists, or on nodes that are named.

    Its calls return Deferreds, which can be awaited. Cancelling one cuts its request off.

    :param registries: URLs, or lists of them; all are watched, and any that answers is enough.
    :param nodes: ``host:port`` of each node, to go without a registry.
    :param reactor: the reactor to work on; Twisted's global one where it is left out.
    :param balancer: who gets the next request; they take turns where it is left out.
    :param timeout: seconds for a whole call that names no time of its own.
    :param cache: whether the last known nodes are kept on disk for a start while no registry
        answers, in the user's cache folder; or the folder where they are.
    """

    def __init__(
        self,
        *registries: str | Iterable[str],
        nodes: Iterable[str] = (),
        reactor: Any = None,
        balancer: Balancer | None = None,
        timeout: float = TIMEOUT_SECONDS,
        cache: Cache = True,
    ) -> None:
        nodes = tuple(nodes)
        urls = check_places(registries, nodes)
        if reactor is None:
            from twisted.internet import reactor
        self._reactor = reactor
        self._timeout_seconds = check_timeout(timeout)
        self._balancer = balancer or RoundRobin()
        self._suspects = Suspects()
        self._transport = Transport(reactor)
        self._directory: Directory = (
            RegistryDirectory(self._transport, reactor, urls, _remembered(reactor, cache, urls))
            if urls
            else FixedNodes(nodes)
        )
        self._calls: set[Deferred[Any]] = set()
        self._closed = False

    def classify(
        self,
        image: Image,
        model: str | None = None,
        top: int = 5,
        timeout: float | None = None,
    ) -> Deferred[Classification]:
        """The ``top`` labels for ``image``; by each node's first model where none is named.

        :raises RequestError: where the request is at fault (no image, no such model, too large).
        :raises Unavailable: where nobody could serve it; its kinds say why.
        :raises NodeFault: where every node failed at it.
        :raises OSError: where the file cannot be read.
        """
        failures: dict[str, SmlsError] = {}
        return self._call(
            lambda deadline: self._classify(image, model, top, deadline, failures),
            timeout,
            failures,
        )

    def nodes(
        self, model: str | None = None, timeout: float | None = None
    ) -> Deferred[tuple[NodeRecord, ...]]:
        """The live nodes that serve ``model``, all of them where none is named; maybe none.

        :raises RegistryUnavailable: where no registry answers, and none ever did.
        """
        return self._call(lambda _: self._directory.listing(model), timeout, {})

    def close(self) -> Deferred[None]:
        """Ends calls in flight with ``ClientClosed`` and closes the connections."""
        if self._closed:
            return succeed(None)
        self._closed = True
        for call in list(self._calls):
            call.cancel()
        closed = gatherResults([self._directory.close(), self._transport.close()])
        return closed.addCallback(lambda _: None)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _call(
        self, start: Any, timeout: float | None, failures: dict[str, SmlsError]
    ) -> Deferred[Any]:
        if self._closed:
            return fail(ClientClosed("the client is closed"))
        try:
            seconds = self._timeout_seconds if timeout is None else check_timeout(timeout)
        except BadRequest:
            return fail()
        coroutine: Coroutine[Deferred[Any], Any, Any] = start(self._reactor.seconds() + seconds)
        call = Deferred.fromCoroutine(coroutine)
        if call.called:
            return call

        def out_of_time(_: object, __: float) -> Failure:
            tried = f"; tried {_told(failures)}" if failures else ""
            return Failure(DeadlineExceeded(f"no answer within {seconds:g} s{tried}"))

        def ended(result: T) -> T | Failure:
            self._calls.discard(call)
            cancelled = isinstance(result, Failure) and isinstance(result.value, CancelledError)
            if cancelled and self._closed:
                return Failure(ClientClosed("the client was closed during the call"))
            return result

        self._calls.add(call)
        call.addTimeout(seconds, self._reactor, out_of_time)
        return call.addBoth(ended)

    async def _classify(
        self,
        image: Image,
        model: str | None,
        top: int,
        deadline: float,
        failures: dict[str, SmlsError],
    ) -> Classification:
        if not isinstance(top, int) or top < 1:
            raise BadRequest(f"top: got {top!r}, wanted a whole number from 1")
        body = await self._read(image)
        named = {} if model is None else {"model": model}
        path = f"/classify?{urlencode({**named, 'top': top})}"
        nodes = await self._directory.nodes(model)
        fresh = False
        while True:
            node = self._pick(nodes, failures)
            if node is None and not fresh:
                # All are tried. There may be others by now.
                fresh = True
                await self._directory.refresh()
                nodes = await self._nodes_again(model)
                node = self._pick(nodes, failures)
            if node is None:
                raise _most_telling(failures)
            left = any(
                other.address != node.address and other.address not in failures for other in nodes
            )
            # The last node gets all the time that is left: the call's own timeout ends it.
            seconds = (deadline - self._reactor.seconds()) / 2 if left else None
            try:
                return await self._attempt(node, path, body, seconds)
            except ModelNotFound as error:
                failures[node.address] = error  # the list may be older than the node's models
            except RequestError:
                raise
            except SmlsError as error:
                failures[node.address] = error
                self._doubt(node, error)

    async def _nodes_again(self, model: str | None) -> tuple[NodeRecord, ...]:
        try:
            return await self._directory.nodes(model)
        except Unavailable:
            return ()

    async def _read(self, image: Image) -> bytes:
        if isinstance(image, bytes | bytearray | memoryview):
            return read_image(image)
        pool = self._reactor.getThreadPool()
        return await deferToThreadPool(self._reactor, pool, read_image, image)

    def _pick(
        self, nodes: tuple[NodeRecord, ...], failures: dict[str, SmlsError]
    ) -> NodeRecord | None:
        sound = self._suspects.sound(nodes, self._reactor.seconds())
        return self._balancer.pick(sound, failures) or self._balancer.pick(nodes, failures)

    async def _attempt(
        self, node: NodeRecord, path: str, body: bytes, seconds: float | None
    ) -> Classification:
        if node.scheme != "http":
            raise NodeUnreachable(f"{node.scheme} is not spoken yet")
        reply = await self._transport.request(
            "POST", node.url(path), body=body, timeout_seconds=seconds
        )
        if reply.status != 200:
            raise read_error(reply.status, reply.body, reply.header("Retry-After"))
        self._suspects.clear(node)
        return read_classification(reply.body, node.address)

    def _doubt(self, node: NodeRecord, error: SmlsError) -> None:
        now = self._reactor.seconds()
        if isinstance(error, NodeUnreachable):
            self._suspects.suspect(node, now, SUSPECT_SECONDS)
            self._directory.refresh()
        elif isinstance(error, Overloaded):
            seconds = min(error.retry_after_seconds or 1.0, SUSPECT_SECONDS)
            self._suspects.suspect(node, now, seconds)


def _remembered(reactor: Any, cache: Cache, registries: Iterable[str]) -> Remembered | None:
    if cache is False:
        return None
    return Remembered(reactor, cache_folder() if cache is True else Path(cache), registries)


def check_timeout(seconds: float) -> float:
    """``seconds`` where they are a time that can be waited for.

    :raises BadRequest: where they are not.
    """
    if not isinstance(seconds, int | float) or not 0 < seconds < 1e6:
        raise BadRequest(f"timeout: got {seconds!r}, wanted seconds above 0 and below a million")
    return float(seconds)


def _told(failures: dict[str, SmlsError]) -> str:
    return "; ".join(f"{address}: {error.message}" for address, error in failures.items())


def _most_telling(failures: dict[str, SmlsError]) -> SmlsError:
    """One error for those of all nodes that were tried."""
    errors = list(failures.values())
    overloaded = [error for error in errors if isinstance(error, Overloaded)]
    if overloaded:
        waits = [error.retry_after_seconds for error in overloaded if error.retry_after_seconds]
        return Overloaded(
            f"no node has room: {_told(failures)}",
            retry_after_seconds=min(waits) if waits else None,
        )
    for kind in (ModelNotFound, NodeFault, DeadlineExceeded):
        if errors and all(isinstance(error, kind) for error in errors):
            return kind(_told(failures))
    return NodeUnreachable(f"no node answered: {_told(failures)}")
