# SPDX-License-Identifier: MIT
"""Calls over gRPC: counted, parsed, asked of the node on the reactor's thread, and answered.

gRPC's loop runs in a thread of its own; all that is the node's is asked on the reactor's, and all
that takes time in proportion to a size is done in a third.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc
from attrs import frozen
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from smls.errors import BadRequest, SmlsError, Unavailable
from smls.log import fault
from smls.wire import LoadReport
from smls_node.catalogue import Model
from smls_node.counts import Traffic
from smls_node.faces.grpc.messages import service
from smls_node.faces.grpc.statuses import (
    TIMING_KEY,
    Metadata,
    load_metadata,
    pushback,
    status_of,
)
from smls_node.faces.terms import SMALL_BYTES, server_timing
from smls_node.serving import Ask, Serving
from smls_node.worker import Times


class Call:
    """One call: by when its answer is wanted, and the three places where work is done."""

    def __init__(self, node: Node, context: Any) -> None:
        now = node.serving.seconds()
        remaining = context.time_remaining()
        self.deadline = now + (node.timeout_seconds if remaining is None else remaining)
        self.trailing: Metadata = ()
        self._timing = ""
        self._begun = now
        self._node = node

    def within(self, seconds: float | None) -> float:
        """The earlier moment of the deadline and of ``seconds`` after the call began."""
        return self.deadline if seconds is None else min(self.deadline, self._begun + seconds)

    async def parsed(self, kind: Any, data: bytes) -> Any:
        """``data`` as a message.

        :raises BadRequest: where it is none.
        """
        try:
            return await self.offload(len(data), kind.FromString, data)
        except DecodeError as error:
            raise BadRequest(f"got no {kind.DESCRIPTOR.full_name}: {error}") from None

    async def offload(self, size_bytes: int, work: Callable[..., Any], *given: Any) -> Any:
        """What ``work(*given)`` gives, in a thread unless it is small."""
        if size_bytes > SMALL_BYTES:
            return await asyncio.to_thread(work, *given)
        return work(*given)

    async def ask(self, work: Callable[..., Any], *given: Any) -> Any:
        """What ``work(*given)`` gives, or its Deferred, on the reactor's thread.

        Where the call is cancelled, the Deferred is.
        """
        return await self._node.ask(work, *given)

    async def run(self, ask: Ask, work: Callable[[Model], Deferred[Any]]) -> Any:
        """What ``work`` gives for the model that ``ask`` names, as ``ask``.

        Where nobody could serve it, the answer says how busy the model is: who is told to go
        elsewhere balances by this.
        """

        def begin() -> Deferred[Any]:
            model = self._node.serving.find(ask)
            return maybeDeferred(work, model).addErrback(refused, model)

        def refused(failure: Failure, model: Model) -> Failure:
            if failure.check(Unavailable):
                self.trailing = load_metadata(model.workers.load())
            return failure

        return await self.ask(begin)

    def report(self, times: Times, load: LoadReport, *, encode: float) -> None:
        """Says with the answer where the time went, and how busy the node is."""
        total = self.age
        read = max(0.0, total - times.total - encode)
        timing = server_timing(times, read=read, encode=encode, total=total)
        self._timing = timing
        self.trailing = load_metadata(load)

    @property
    def age(self) -> float:
        """Seconds since the call began."""
        return self._node.serving.seconds() - self._begun

    @property
    def left(self) -> grpc.StatusCode:
        """How a call ends whose client waits no more: by its deadline, or before."""
        late = self._node.serving.seconds() >= self.deadline
        return grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED

    @property
    def timing(self) -> Metadata:
        """Where the time went; how long it took in all, where a call has not said more."""
        return ((TIMING_KEY, self._timing or f"total;dur={self.age * 1000:.2f}"),)


Answer = Callable[[Any, Call], Awaitable[Any]]
"""What a call's message is answered with: a message, or its bytes."""


@frozen
class Unary:
    """How a call of one message and one answer is done.

    With ``is_work`` it is refused while the node takes no new requests. With ``is_raw`` it is
    given the message's bytes.
    """

    answer: Answer
    is_work: bool = False
    is_raw: bool = False


class Node:
    """The node as gRPC's thread sees it; counts the calls and those in flight.

    ``from_thread`` calls a function on the reactor's thread, as ``callFromThread`` does.
    """

    log = Logger()

    def __init__(
        self, serving: Serving, from_thread: Callable[..., Any], timeout_seconds: float
    ) -> None:
        self.serving = serving
        self.timeout_seconds = timeout_seconds
        self.in_flight = 0
        self.traffic = Traffic(lambda: self.in_flight)
        self._from_thread = from_thread
        self._idle = asyncio.Event()
        self._idle.set()

    async def ask(self, work: Callable[..., Any], *given: Any) -> Any:
        """As ``Call.ask``."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Any] = loop.create_future()
        asked: list[Deferred[Any]] = []

        def begin() -> None:
            if answered.cancelled():
                return
            asked.append(maybeDeferred(work, *given))
            asked[0].addCallbacks(settle, settle, (answered.set_result,), {}, (None,))

        def settle(result: Any, give: Callable[[Any], None] | None) -> None:
            if give is None:
                give, result = answered.set_exception, result.value
            post(loop, lambda: answered.done() or give(result))

        def leave() -> None:
            for each in asked:
                each.cancel()

        self._from_thread(begin)
        try:
            return await answered
        except asyncio.CancelledError:
            self._from_thread(leave)
            raise

    def handlers(self, name: str, calls: Mapping[str, Unary]) -> grpc.GenericRpcHandler:
        """The handlers of the calls of the service ``name``; gRPC says UNIMPLEMENTED of others."""
        described = service(name).methods_by_name
        return grpc.method_handlers_generic_handler(
            name,
            {
                method: grpc.unary_unary_rpc_method_handler(
                    self._behaviour(unary, GetMessageClass(described[method].input_type))
                )
                for method, unary in calls.items()
            },
        )

    async def when_idle(self) -> None:
        """Returns when no call is in flight."""
        await self._idle.wait()

    def _behaviour(self, unary: Unary, kind: Any) -> Callable[[bytes, Any], Awaitable[bytes]]:
        async def answer(data: bytes, call: Call) -> bytes:
            refusal = self.serving.refusal() if unary.is_work else None
            if refusal is not None:
                raise refusal
            request = data if unary.is_raw else await call.parsed(kind, data)
            response = await unary.answer(request, call)
            if isinstance(response, bytes):
                return response
            return bytes(await call.offload(response.ByteSize(), response.SerializeToString))

        async def told(data: bytes, context: Any) -> bytes:
            call = Call(self, context)
            with self._counted():
                try:
                    answered = await answer(data, call)
                except SmlsError as error:
                    problem = error
                except asyncio.CancelledError:
                    self.traffic.answered(call.left.name, call.age)
                    raise
                except Exception:
                    problem = fault(self.log, Failure())
                else:
                    self.traffic.answered(grpc.StatusCode.OK.name, call.age)
                    context.set_trailing_metadata((*call.timing, *call.trailing))
                    return answered
            self.traffic.answered(status_of(problem).name, call.age)
            trailing = (*call.timing, *call.trailing, *pushback(problem))
            await context.abort(status_of(problem), problem.message, trailing)
            raise AssertionError("abort raises")

        return told

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self._idle.set()


def post(loop: asyncio.AbstractEventLoop, work: Callable[[], Any]) -> None:
    """Has ``work`` done on ``loop``'s thread; who waited there is gone where it is closed."""
    try:
        loop.call_soon_threadsafe(work)
    except RuntimeError:
        if not loop.is_closed():
            raise
