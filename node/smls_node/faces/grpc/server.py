# SPDX-License-Identifier: MIT
"""The gRPC server: a thread with a loop of its own, from ``start`` to ``stop``."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from attrs import frozen
from grpc import aio
from twisted.internet.defer import Deferred

from smls.errors import PortTaken
from smls.wire import join_address
from smls_node import machine
from smls_node.counts import Traffic
from smls_node.faces.grpc import oip, reflection, tfserving
from smls_node.faces.grpc.calls import Node, post
from smls_node.faces.grpc.health import SERVICE as HEALTH
from smls_node.faces.grpc.health import Health
from smls_node.serving import Serving

ALL_ADDRESSES = "0.0.0.0"
"""Those that the HTTP side listens on too where no host is named."""

REFUSING_SECONDS = 0.1
"""How long calls are still taken, and refused, before the port closes: those that gRPC has received
and not handed over would be told CANCELLED, with which nobody goes elsewhere."""

LAST_SECONDS = 1.0
"""How long answers may take to leave, once all of them are there; what still streams is cut."""


@frozen
class GrpcSettings:
    """Where the server listens, 0 for a free port, and what it takes; messages in bytes.

    With ``shares_port`` other processes may listen on the port too, and the system spreads the
    connections over them; else a port that is taken is an error.
    """

    host: str
    port: int
    timeout_seconds: float
    max_upload: int
    version: str
    shares_port: bool = False


class GrpcServer:
    """The node's gRPC services on one port. All is called on the reactor's thread.

    ``from_thread`` calls a function there, as ``callFromThread`` does.
    """

    def __init__(
        self,
        serving: Serving,
        from_thread: Callable[..., Any],
        settings: GrpcSettings,
    ) -> None:
        self.port = 0
        self._settings = settings
        self._from_thread = from_thread
        self._node = Node(serving, from_thread, settings.timeout_seconds)
        open_inference = oip.OpenInference(serving, settings.version)
        tensorflow = tfserving.TensorFlowServing(serving, settings.max_upload)
        services = {
            oip.SERVICE: open_inference.calls,
            oip.REPOSITORY: open_inference.repository_calls,
            tfserving.PREDICTION: tensorflow.prediction_calls,
            tfserving.MODELS: tensorflow.model_calls,
        }
        self._health = Health(serving, services)
        self._handlers = [
            *(self._node.handlers(name, calls) for name, calls in services.items()),
            *reflection.handlers([*services, HEALTH]),
            self._health.handler(),
        ]
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._stopped: Deferred[None] = Deferred()
        self._thread = threading.Thread(target=self._run, name="grpc", daemon=True)
        self._listening: Future[int] = Future()

    @property
    def in_flight(self) -> int:
        """How many calls are not answered yet."""
        return self._node.in_flight

    @property
    def traffic(self) -> Traffic:
        """What is counted of the calls."""
        return self._node.traffic

    def start(self) -> None:
        """Listens; blocks for the milliseconds until it does.

        :raises PortTaken: where the port cannot be had.
        """
        self._thread.start()
        self.port = self._listening.result()

    def tell(self) -> None:
        """Tells who watches that the node's phase has changed."""
        post(self._loop, self._health.changed)

    def when_idle(self) -> Deferred[None]:
        """Fires when no call is in flight."""
        return self._until(self._node.when_idle())

    def stop(self) -> Deferred[None]:
        """Closes the port and the connections; fires when the thread is gone."""
        post(self._loop, self._stopping.set)
        return self._stopped

    def _until(self, coroutine: Coroutine[Any, Any, None]) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        waiting = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        waiting.add_done_callback(lambda _: self._from_thread(done.callback, None))
        return done

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_default_executor(ThreadPoolExecutor(machine.cores(), "grpc-parse"))
        try:
            self._loop.run_until_complete(self._serve())
        except Exception as error:
            if self._listening.done():
                raise
            self._listening.set_exception(error)
        finally:
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()
            self._from_thread(self._stopped.callback, None)

    async def _serve(self) -> None:
        settings = self._settings
        server = aio.server(
            handlers=self._handlers,
            options=[
                ("grpc.so_reuseport", int(settings.shares_port)),
                ("grpc.max_receive_message_length", settings.max_upload),
                ("grpc.max_send_message_length", -1),
            ],
        )
        try:
            port = _bound(server, settings)
        except OSError as error:
            await server.stop(None)
            why = os.strerror(error.errno) if error.errno else error
            raise PortTaken(
                f"cannot listen on port {settings.port} of {settings.host or 'all addresses'} "
                f"for gRPC: {why}; choose another with --grpc-port, or a free one with "
                "--grpc-port 0"
            ) from error
        await server.start()
        self._listening.set_result(port)
        await self._stopping.wait()
        self._health.close()
        await asyncio.sleep(REFUSING_SECONDS)
        await server.stop(LAST_SECONDS)


def _bound(server: Any, settings: GrpcSettings) -> int:
    """The port that ``server`` is bound to.

    :raises OSError: where it cannot be. It is tried first without gRPC, which does not say why,
        and writes to standard error.
    """
    host = settings.host or ALL_ADDRESSES
    if settings.port and not settings.shares_port:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, settings.port), family=family).close()
    try:
        return int(server.add_insecure_port(join_address(host, settings.port)))
    except RuntimeError as error:
        raise OSError(str(error)) from error
