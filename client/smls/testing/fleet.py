# SPDX-License-Identifier: MIT
"""A registry and nodes in a thread of their own, for programs that block or have their own loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Thread, current_thread
from types import TracebackType
from typing import Any, TypeVar, Unpack, overload

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import blockingCallFromThread

from smls.blocking import BlockingClient
from smls.options import Options
from smls.reactors import dispose, thread_reactor
from smls.testing.node import Asked, FakeModel, FakeNode
from smls.testing.registry import FakeRegistry
from smls.testing.server import FakeServer

C = TypeVar("C")


class FakeFleet:
    """A fake registry and nodes that have all these models; they listen within ``with``.

    ``nodes`` says how many, which are named ``node-1`` and so on, or their names. ``calls`` is
    what the nodes were asked, in that order, whatever they answered. Its methods may be called
    from any thread, return when it is done, and wait for nothing but the fleet.
    """

    def __init__(self, *models: FakeModel, nodes: int | Iterable[str] = 1) -> None:
        names = (
            [f"node-{number}" for number in range(1, nodes + 1)]
            if isinstance(nodes, int)
            else nodes
        )
        self.calls: list[Asked] = []
        self.nodes = [FakeNode(name, models, self.calls) for name in names]
        self.registry = FakeRegistry()
        self._reactor: Any = None
        self._thread: Thread | None = None

    def __enter__(self) -> FakeFleet:
        self._reactor = thread_reactor()
        self._thread = Thread(target=self._run, name="smls fake fleet", daemon=True)
        self._thread.start()
        self.call(self._start)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.call(lambda: gatherResults([server.stop() for server in self._servers()]))
        self._reactor.callFromThread(self._reactor.stop)
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    @property
    def url(self) -> str:
        """The registry's, for clients that the program makes itself, and for SMLS_REGISTRY."""
        return self.registry.url

    @overload
    def client(self, **options: Unpack[Options]) -> BlockingClient: ...

    @overload
    def client(self, kind: Callable[..., C], **options: Any) -> C: ...

    def client(self, kind: Callable[..., Any] = BlockingClient, **options: Any) -> Any:
        """A client of that kind which knows the registry, and keeps nothing on disk."""
        return kind(self.url, **{"cache": False, **options})

    def kill(self, server: FakeServer, *, noticed: bool = True) -> None:
        """A node, or the registry, dies: its port and its connections are closed.

        The registry lists the node no more, unless its death is not ``noticed``.
        """
        self.call(self._kill, server, noticed)

    def restart(self, server: FakeServer) -> None:
        """A node, or the registry, is there again at its address, and has forgotten all."""
        self.call(self._restart, server)

    def add(self, name: str, *models: FakeModel) -> FakeNode:
        """Another node, which has these models, starts and is listed."""
        node = FakeNode(name, models, self.calls)
        self.nodes.append(node)
        self.restart(node)
        return node

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What ``function`` returns, or the Deferred that it returns, called in the fleet's thread.

        :raises RuntimeError: outside of ``with``; or in that thread, which would wait for itself.
        """
        if self._thread is None:
            raise RuntimeError("the fake fleet is not there: it is from 'with' on until its end")
        if self._thread is current_thread():
            raise RuntimeError("the fake fleet was called by an answer or a behaviour of its own")
        return blockingCallFromThread(self._reactor, function, *arguments)

    def _servers(self) -> list[FakeServer]:
        return [self.registry, *self.nodes]

    def _start(self) -> None:
        for server in self._servers():
            server.start(self._reactor)
        self.registry.nodes = [node.record for node in self.nodes]

    def _kill(self, server: FakeServer, noticed: bool) -> Deferred[Any]:
        if noticed and isinstance(server, FakeNode):
            self.registry.tell_delta(gone=[server.record.id])
        return server.stop()

    async def _restart(self, server: FakeServer) -> None:
        former = server.record.id if isinstance(server, FakeNode) else ""
        await server.stop()
        server.start(self._reactor)
        if isinstance(server, FakeNode):
            self.registry.tell_delta(server.record, gone=[former])
        else:
            self.registry.restart(*(node.record for node in self.nodes if node.is_listening))

    def _run(self) -> None:
        self._reactor.run(installSignalHandlers=False)
        dispose(self._reactor)
