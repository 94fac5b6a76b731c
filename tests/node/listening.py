# SPDX-License-Identifier: MIT
"""Nodes on real sockets with models that need no library, in a thread of this process."""

from __future__ import annotations

from functools import partial
from threading import Thread
from typing import Any

from twisted.internet.defer import gatherResults, maybeDeferred
from twisted.internet.threads import blockingCallFromThread, deferToThreadPool

from smls.reactors import dispose, thread_reactor
from smls.testing import FakeRegistry
from smls.wire import ModelRecord, NodeRecord
from smls_node.batchtime import BatchTime
from smls_node.catalogue import Catalogue
from smls_node.faces.app import make_site
from smls_node.faces.terms import Terms
from smls_node.serving import Phase, Serving
from smls_node.settings import Limits
from tests.node.memory import Named


class Listening:
    """A node for each of ``fleet``, which are the models that it has, and a registry that lists
    them; each version goes by the label that ``labels`` has for it."""

    def __init__(self, *fleet: tuple[Named, ...], labels: dict[str, str] | None = None) -> None:
        self.registry = FakeRegistry()
        self.addresses: list[str] = []
        self._fleet = fleet
        self._labels = labels or {}
        self._models: list[Any] = []
        self._ports: list[Any] = []
        self._reactor: Any = thread_reactor()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Listening:
        self._thread.start()
        blockingCallFromThread(self._reactor, self._start)
        return self

    def __exit__(self, *_: object) -> None:
        blockingCallFromThread(self._reactor, self._stop)
        for each in self._models:
            each.workers.stop()
        self._reactor.callFromThread(self._reactor.stop)
        self._thread.join()

    def _start(self) -> None:
        self.registry.start(self._reactor)
        for number, models in enumerate(self._fleet):
            self._listen(f"node-{number}", models)

    def _listen(self, name: str, models: tuple[Named, ...]) -> None:
        reactor, catalogue = self._reactor, Catalogue()
        for each in models:
            model = each.on(reactor, 1, Limits(), BatchTime(), reactor)
            model.workers.start()
            catalogue.add(model)
            self._models.append(model)
        serving = Serving(catalogue, reactor.seconds)
        serving.node, serving.phase = name, Phase.READY
        terms = Terms(30.0, partial(deferToThreadPool, reactor, reactor.getThreadPool()))
        site = make_site(serving, reactor, terms, version="1.2.3", max_upload=1 << 24)
        port = reactor.listenTCP(0, site, interface="127.0.0.1")
        self._ports.append(port)
        self.addresses.append(f"127.0.0.1:{port.getHost().port}")
        records = [
            ModelRecord(
                each.name,
                each.version,
                labels=(self._labels[each.version],) if each.version in self._labels else (),
            )
            for each in models
        ]
        self.registry.nodes.append(
            NodeRecord(name, self.addresses[-1], name=name, models=tuple(records))
        )

    def _stop(self) -> Any:
        stopped = [maybeDeferred(port.stopListening) for port in self._ports]
        return gatherResults([*stopped, self.registry.stop()])

    def _run(self) -> None:
        self._reactor.run(installSignalHandlers=False)
        dispose(self._reactor)
