# SPDX-License-Identifier: MIT
"""The blocking twin of the client, for scripts and notebooks.

Its work is done in a thread that it starts at the first call, on a reactor of its own: the
program's own reactor or event loop, if there is one, goes untouched.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import update_wrapper
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar, Unpack
from weakref import finalize

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from smls.client import Client, Image, read_image
from smls.errors import ClientClosed, ForkedClient
from smls.options import Options, check_options
from smls.reactors import dispose, thread_reactor

P = ParamSpec("P")
T = TypeVar("T")

CLOSE_SECONDS = 5.0
"""How long ``close`` waits for the thread to end; connections end at once as a rule."""


def _started(
    method: Callable[Concatenate[Client, P], Deferred[T]],
) -> Callable[Concatenate[BlockingClient, P], Future[T]]:
    """What returns at once, as a Future, what ``method`` does."""

    def call(self: BlockingClient, /, *args: P.args, **named: P.kwargs) -> Future[T]:
        self._check_process()
        return self._call(lambda client: method(client, *args, **named))

    update_wrapper(call, method)
    return call


def _submitted(
    method: Callable[Concatenate[Client, Image, P], Deferred[T]],
) -> Callable[Concatenate[BlockingClient, Image, P], Future[T]]:
    """What returns at once, as a Future, what ``method`` does with an image read before."""

    def call(self: BlockingClient, /, image: Image, *args: P.args, **named: P.kwargs) -> Future[T]:
        self._check_process()
        body = read_image(image)
        return self._call(lambda client: method(client, body, *args, **named))

    update_wrapper(call, method)
    return call  # type: ignore[return-value]  # Concatenate has no names, the image has one


def _returned(
    method: Callable[Concatenate[BlockingClient, P], Future[T]],
) -> Callable[Concatenate[BlockingClient, P], T]:
    """What waits for what ``method`` submits."""

    def call(self: BlockingClient, /, *args: P.args, **named: P.kwargs) -> T:
        return _result(method(self, *args, **named))

    update_wrapper(call, method)
    return call


class BlockingClient:
    """Asks nodes as ``Client`` does; its calls return when there is a result.

    Any number of threads may use one. After a fork the child must make its own: one that its
    parent made raises ``ForkedClient``. The arguments are those of ``Client``, less the reactor.
    """

    def __init__(self, *registries: str | Iterable[str], **options: Unpack[Options]) -> None:
        options["nodes"] = tuple(options.get("nodes", ()))
        urls = check_options(registries, options)

        def make(reactor: Any) -> Client:
            return Client(urls, reactor=reactor, **options)

        self._process = os.getpid()
        self._lock = Lock()
        self._make = make
        self._thread: _ClientThread | None = None
        self._finalizer: finalize[..., Any] | None = None
        self._closed = False

    submit = _submitted(Client.classify)
    """As ``classify``, but returns a Future at once; cancelling it cuts the request off.

    A path or a file is read before it returns.
    """

    classify = _returned(submit)

    submit_embed = _started(Client.embed)
    """As ``embed``, but returns a Future at once."""

    embed = _returned(submit_embed)

    submit_predict = _started(Client.predict)
    """As ``predict``, but returns a Future at once."""

    predict = _returned(submit_predict)

    submit_infer = _started(Client.infer)
    """As ``infer``, but returns a Future at once."""

    infer = _returned(submit_infer)
    models = _returned(_started(Client.models))
    nodes = _returned(_started(Client.nodes))

    def close(self) -> None:
        """Ends calls in flight with ``ClientClosed``, closes the connections, ends the thread."""
        if os.getpid() != self._process:
            return  # nothing here is this process's to close
        with self._lock:
            self._closed = True
        if self._finalizer is not None:
            self._finalizer()

    def __enter__(self) -> BlockingClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise ForkedClient(
                f"this client was made in process {self._process}, before a fork, and its thread "
                f"stayed there; make another in process {os.getpid()}"
            )

    def _call(self, start: Callable[[Client], Deferred[T]]) -> Future[T]:
        with self._lock:
            if self._closed:
                raise ClientClosed("the client is closed")
            if self._thread is None:
                self._thread = _ClientThread(self._make)
                # Runs at the interpreter's exit too, and does not keep the client alive.
                self._finalizer = finalize(self, self._thread.close)
            return self._thread.call(start)


def _result(future: Future[T]) -> T:
    try:
        return future.result()
    except BaseException:
        future.cancel()  # a KeyboardInterrupt ends the call, and not only the waiting
        raise


class _ClientThread:
    """A thread with a reactor and a client on it. Calls are made in the order of ``call``."""

    def __init__(self, make: Callable[[Any], Client]) -> None:
        self._process = os.getpid()
        self._reactor: Any = thread_reactor()
        self._client = make(self._reactor)
        self._thread = Thread(target=self._run, name="smls client", daemon=True)
        self._thread.start()

    def call(self, start: Callable[[Client], Deferred[T]]) -> Future[T]:
        future: Future[T] = Future()
        self._reactor.callFromThread(self._start, start, future)
        return future

    def close(self) -> None:
        if os.getpid() == self._process and self._thread.is_alive():
            self._reactor.callFromThread(self._stop)
            self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        self._reactor.run(installSignalHandlers=False)
        dispose(self._reactor)

    def _start(self, start: Callable[[Client], Deferred[T]], future: Future[T]) -> None:
        call = start(self._client)

        def watch(future: Future[T]) -> None:
            if future.cancelled():
                self._reactor.callFromThread(call.cancel)

        def done(result: T) -> None:
            if future.set_running_or_notify_cancel():
                future.set_result(result)

        def failed(failure: Failure) -> None:
            if future.set_running_or_notify_cancel():
                assert failure.value is not None
                future.set_exception(failure.value)

        future.add_done_callback(watch)
        call.addCallbacks(done, failed)

    def _stop(self) -> None:
        def stop(_: object) -> None:
            self._reactor.stop()

        self._client.close().addBoth(stop)
