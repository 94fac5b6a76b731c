# SPDX-License-Identifier: MIT
"""The client for asyncio programs: ``smls.aio.Client``, on the loop that runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from functools import update_wrapper
from threading import Thread
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar, Unpack

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.defer import Deferred
from twisted.internet.posixbase import PosixReactorBase
from twisted.python.threadpool import ThreadPool

from smls import client
from smls.errors import ClientClosed
from smls.options import Options, check_options

P = ParamSpec("P")
T = TypeVar("T")


def _awaited(
    method: Callable[Concatenate[client.Client, P], Deferred[T]],
) -> Callable[Concatenate[Client, P], Coroutine[Any, Any, T]]:
    """The coroutine of what returns a Deferred, with the same arguments."""

    async def call(self: Client, /, *args: P.args, **named: P.kwargs) -> T:
        return await self._future(method(self._opened(), *args, **named))

    update_wrapper(call, method)
    return call


class Client:
    """Asks nodes as ``smls.Client`` does; its calls are coroutines.

    It belongs to the event loop of its first call. Cancelling a task cuts its request off.
    The arguments are those of ``smls.Client``, less the reactor.
    """

    def __init__(self, *registries: str | Iterable[str], **options: Unpack[Options]) -> None:
        options["nodes"] = tuple(options.get("nodes", ()))
        self._registries = check_options(registries, options)
        self._options = options
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reactor: _LoopReactor | None = None
        self._client: client.Client | None = None
        self._closed = False

    classify = _awaited(client.Client.classify)
    embed = _awaited(client.Client.embed)
    predict = _awaited(client.Client.predict)
    infer = _awaited(client.Client.infer)
    models = _awaited(client.Client.models)
    nodes = _awaited(client.Client.nodes)

    async def close(self) -> None:
        """Ends calls in flight with ``ClientClosed`` and closes the connections."""
        self._closed = True
        if self._client is None or self._reactor is None:
            return
        inner, reactor = self._client, self._reactor
        self._client = self._reactor = None
        await self._future(inner.close())
        reactor.finish()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _opened(self) -> client.Client:
        if self._closed:
            raise ClientClosed("the client is closed")
        running = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = running
        elif self._loop is not running:
            raise ClientClosed("the client belongs to another event loop; make one in this loop")
        if self._client is None:
            self._reactor = _LoopReactor(running)
            self._client = client.Client(self._registries, reactor=self._reactor, **self._options)
        return self._client

    def _future(self, deferred: Deferred[T]) -> asyncio.Future[T]:
        return deferred.asFuture(asyncio.get_running_loop())


class _LoopReactor(AsyncioSelectorReactor):
    """A reactor on an asyncio loop that runs already, and that goes on after the reactor stops."""

    _registerAsIOThread = False

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.startRunning(installSignalHandlers=False)

    def installWaker(self) -> None:
        """Nothing: threads wake the loop by its own means."""

    def getThreadPool(self) -> ThreadPool:
        pool = super().getThreadPool()
        # A client that was never closed does not hold the interpreter back.
        pool.threadFactory = _DaemonThread
        return pool

    def crash(self) -> None:
        PosixReactorBase.crash(self)  # without stopping the loop, which is not ours

    def finish(self) -> None:
        """Closes what is open on this reactor, and its threads."""
        self.fireSystemEvent("shutdown")


class _DaemonThread(Thread):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named, daemon=True)
