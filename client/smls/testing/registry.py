# SPDX-License-Identifier: MIT
"""A registry that lists what it is told to."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from smls.testing.server import FakeRequest, FakeServer, fail
from smls.wire import Delta, Listing, NodeRecord, delta_to_json, listing_to_json


class FakeRegistry(FakeServer):
    """Tells the records in ``nodes`` to those who watch: now, and at each ``tell``."""

    def __init__(self) -> None:
        super().__init__(self._watch)
        self.nodes: list[NodeRecord] = []
        self.history = "first"
        self.revision = 1
        self.settling = False
        self.watchers: list[FakeRequest] = []

    def tell(self, *nodes: NodeRecord) -> None:
        """Lists other nodes."""
        self.revision += 1
        self.nodes = list(nodes)
        self.send(self._event("snapshot", self._listing()))

    def tell_delta(self, *put: NodeRecord, gone: Iterable[str] = ()) -> None:
        """Lists some nodes more or less."""
        self.revision += 1
        self.nodes = [node for node in self.nodes if node.id not in {*gone}] + list(put)
        self.send(self._event("delta", delta_to_json(Delta(self.revision, put, tuple(gone)))))

    def send(self, data: bytes) -> None:
        """Sends anything to those who watch."""
        for watcher in self.watchers:
            watcher.write(data)  # type: ignore[no-untyped-call]

    def restart(self, *nodes: NodeRecord) -> None:
        """Loses its watchers and its history, and lists the nodes that are there already."""
        self.history, self.revision, self.nodes = f"after-{self.history}", 1, list(nodes)
        for watcher in list(self.watchers):
            transport: Any = watcher.channel.transport
            transport.abortConnection()

    def _watch(self, request: FakeRequest) -> None:
        if request.path != b"/v1/watch":
            fail("not_found")(request)
            return
        request.setHeader("Content-Type", "text/event-stream")  # type: ignore[no-untyped-call]
        self.watchers.append(request)
        gone = request.notifyFinish()
        gone.addErrback(lambda _: self.watchers.remove(request))
        if request.getHeader("Last-Event-ID") == f"{self.history}:{self.revision}":
            request.write(b": heartbeat\n\n")  # type: ignore[no-untyped-call]
        else:
            request.write(self._event("snapshot", self._listing()))  # type: ignore[no-untyped-call]

    def _listing(self) -> dict[str, Any]:
        return listing_to_json(Listing(self.revision, tuple(self.nodes), self.settling))

    def _event(self, kind: str, value: object) -> bytes:
        return (
            f"event: {kind}\nid: {self.history}:{self.revision}\ndata: {json.dumps(value)}\n\n"
        ).encode()
