# SPDX-License-Identifier: MIT
"""The client: pick a node, send the request straight to it, go elsewhere where that fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, Unpack

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred, fail, gatherResults, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from smls import served
from smls.balancer import Want
from smls.call import Call, told
from smls.directory import Directory, FixedNodes, RegistryDirectory
from smls.errors import BadRequest, ClientClosed, DeadlineExceeded, SmlsError
from smls.folders import cache_folder
from smls.options import TIMEOUT_SECONDS, Cache, Options, check_options, check_timeout
from smls.questions import Classify, Embed, Predict, Question
from smls.remembered import Remembered
from smls.results import Classification, ServedModel
from smls.routing import Router, policy
from smls.transport import Transport
from smls.wire import NodeRecord, check_name

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from smls.infer import Infer, Inference

T = TypeVar("T")


class Readable(Protocol):
    """A file that was opened for reading bytes."""

    def read(self) -> bytes: ...


Image = str | PathLike[str] | bytes | bytearray | memoryview | Readable
"""What ``classify`` takes: the path of a file, the bytes of one, or an open one."""


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


class Client:
    """Asks the nodes that a registry lists, or nodes that are named: for the labels of images,
    the vectors of texts, predictions from features, and what models give for arrays.

    Its calls return Deferreds, which can be awaited. Cancelling one cuts its request off.

    :param registries: URLs, or lists of them; all are watched, and any that answers is enough.
    :param reactor: the reactor to work on; Twisted's global one where it is left out.
    :param options: see ``Options``.
    """

    def __init__(
        self,
        *registries: str | Iterable[str],
        reactor: Any = None,
        **options: Unpack[Options],
    ) -> None:
        nodes = tuple(options.get("nodes", ()))
        urls = check_options(registries, options)
        if reactor is None:
            from twisted.internet import reactor
        self._reactor = reactor
        self._timeout_seconds = options.get("timeout", TIMEOUT_SECONDS)
        self._router = Router(policy(options.get("balancer")), hedge=options.get("hedge", False))
        self._transport = Transport(reactor)
        remembered = _remembered(reactor, options.get("cache", True), urls)
        self._directory: Directory = (
            RegistryDirectory(self._transport, reactor, urls, remembered)
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
        *,
        version: int | str | None = None,
        label: str | None = None,
        key: str | None = None,
    ) -> Deferred[Classification]:
        """The ``top`` labels for ``image``; by each node's first model where none is named.

        :param version: the model's version; its latest on each node where nothing is said.
        :param label: a name that the version goes by, such as ``canary``, instead.
        :param key: callers with the same key have the same node as long as it is sound.
        :raises RequestError: where the request is at fault (no image, no such model, too large).
        :raises Unavailable: where nobody could serve it; its kinds say why.
        :raises NodeFault: where every node failed at it.
        :raises OSError: where the file cannot be read.
        """

        async def question() -> Classify:
            if not isinstance(top, int) or top < 1:
                raise BadRequest(f"top: got {top!r}, wanted a whole number from 1")
            return Classify(await self._read(image), top)

        return self._asked(question, (model, version, label), key, timeout)

    def embed(
        self,
        texts: str | Iterable[str],
        model: str | None = None,
        timeout: float | None = None,
        *,
        version: int | str | None = None,
        label: str | None = None,
        key: str | None = None,
    ) -> Deferred[list[list[float]]]:
        """A vector for each of ``texts``, in their order, from a model that takes texts.

        One text alone gives a list of one vector. The other arguments are as in ``classify``.

        :raises RequestError, Unavailable, NodeFault: as ``classify``.
        """

        async def question() -> Embed:
            return await self._in_thread(Embed.of, texts)

        return self._asked(question, (model, version, label), key, timeout)

    def predict(
        self,
        rows: Mapping[str, Any] | Iterable[Mapping[str, Any]],
        model: str | None = None,
        timeout: float | None = None,
        *,
        version: int | str | None = None,
        label: str | None = None,
        key: str | None = None,
    ) -> Deferred[list[Any]]:
        """A prediction for each of ``rows``, in their order, from a model that takes features.

        A row names each feature: ``{"sl": 2.0, "sw": 1.0}``. One row alone gives a list of one
        prediction. The other arguments are as in ``classify``.

        :raises RequestError, Unavailable, NodeFault: as ``classify``.
        """

        async def question() -> Predict:
            return await self._in_thread(Predict.of, rows)

        return self._asked(question, (model, version, label), key, timeout)

    def infer(
        self,
        model: str,
        inputs: Mapping[str, ArrayLike],
        outputs: Iterable[str] | None = None,
        timeout: float | None = None,
        *,
        version: int | str | None = None,
        label: str | None = None,
        key: str | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Deferred[Inference]:
        """What ``model`` gives for arrays by name; these outputs alone where they are named.

        Both ways go as bytes, so datatypes are the arrays' own: float32 is FP32, and texts are
        BYTES. ``version``, ``label`` and ``key`` are as in ``classify``.

        :param parameters: the request's own, such as ``priority``; see the Open Inference Protocol.
        :raises MissingExtra: where numpy is not installed.
        :raises RequestError, Unavailable, NodeFault: as ``classify``.
        """

        async def question() -> Infer:
            check_name("model", model)
            from smls.program import require_extra

            require_extra("Client.infer", "tensors", ("numpy",))
            from smls import infer

            return await self._in_thread(infer.question, inputs, outputs, parameters or {})

        return self._asked(question, (model, version, label), key, timeout)

    def models(self, timeout: float | None = None) -> Deferred[tuple[ServedModel, ...]]:
        """The versions of models that the live nodes have, by name and version.

        Where a registry lists the nodes, it knows; nodes that were named are asked.

        :raises RegistryUnavailable: as ``nodes``.
        :raises Unavailable: where none of the nodes that are asked answers.
        """
        return self._call(lambda deadline: self._models(deadline), timeout, {})

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
            tried = f"; tried {told(failures)}" if failures else ""
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

    def _asked(
        self,
        make: Callable[[], Awaitable[Question[T]]],
        named: tuple[str | None, int | str | None, str | None],
        key: str | None,
        timeout: float | None,
    ) -> Deferred[T]:
        """What a node answers to the question that ``make`` makes, of the model, version and
        label that are ``named``."""
        failures: dict[str, SmlsError] = {}

        async def ask(deadline: float) -> T:
            want = _want(*named)
            question = await make()
            if question.rows > 1:
                want = evolve(want, rows=question.rows)
            call = Call(
                self._reactor, self._transport, self._directory, self._router, deadline, failures
            )
            return await call.ask(question, want, key)

        return self._call(ask, timeout, failures)

    async def _models(self, deadline: float) -> tuple[ServedModel, ...]:
        nodes = await self._directory.listing(None)
        if not any(node.models for node in nodes):
            left = deadline - self._reactor.seconds()
            nodes = await served.ask(self._transport, nodes, left)
        return served.models(nodes)

    async def _read(self, image: Image) -> bytes:
        if isinstance(image, bytes | bytearray | memoryview):
            return read_image(image)
        return await self._in_thread(read_image, image)

    def _in_thread(self, work: Callable[..., T], *given: Any) -> Deferred[T]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work, *given)


def _remembered(reactor: Any, cache: Cache, registries: Iterable[str]) -> Remembered | None:
    if cache is False:
        return None
    return Remembered(reactor, cache_folder() if cache is True else Path(cache), registries)


def _want(model: str | None, version: int | str | None, label: str | None) -> Want:
    if version is not None and label is not None:
        raise BadRequest(f"got version {version!r} and label {label!r}, wanted one of them")
    return Want(
        model,
        None if version is None else check_name("version", str(version)),
        None if label is None else check_name("label", label),
    )
