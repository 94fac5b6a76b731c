# SPDX-License-Identifier: MIT
"""Nodes that hold a connection open: when it closes, its lease ends at once.

A connection closes because the kernel of a live machine says that its process has let go of it,
which is as good as the process saying so; silence is another thing, and ``suspects`` judges it.
So a burst of closings ends a burst of leases, however many they are. What the registry closes
itself, as it stops or because a node does not read, ends none.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from smls_registry.roster import Change
from smls_registry.stores import Store
from smls_registry.streams import Stream


class Holders:
    """The streams by which nodes hold their leases in ``store``."""

    log = Logger()

    def __init__(self, store: Store) -> None:
        self._store = store
        self._latest: dict[str, Stream] = {}
        store.roster.listeners.append(self._changed)

    def add(self, stream: Stream, node_id: str) -> None:
        """Ends the lease of ``node_id`` when ``stream`` closes, if no later one was opened."""
        self._latest[node_id] = stream

        def closed(by_reader: bool) -> bool:
            if self._latest.get(node_id) is stream:
                del self._latest[node_id]
                if by_reader:
                    self._let_go(node_id)
            return by_reader

        stream.closed.addCallback(closed)

    def _let_go(self, node_id: str) -> None:
        ending = Deferred.fromCoroutine(self._store.withdraw(node_id, "let go"))
        ending.addErrback(
            lambda failure: self.log.failure(
                "the lease that node {node_id} let go runs out by itself", failure, node_id=node_id
            )
        )

    def _changed(self, change: Change) -> None:
        for node in change.was:
            if self._store.roster.get(node.id) is None:
                stream = self._latest.pop(node.id, None)
                if stream is not None:
                    stream.end()
