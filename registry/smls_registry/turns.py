# SPDX-License-Identifier: MIT
"""Whose turn it is: for each model, the live nodes that serve it take turns."""

from __future__ import annotations

from collections import OrderedDict

from smls.wire import NodeRecord


class Turns:
    """Queues of nodes, one a model and one for all nodes; pure, and not safe for threads.

    A node that was asked for goes to the end of that queue, and so does a node that joins: in any
    stretch in which the same nodes stay, their turns differ by one at most. A queue lives as
    long as a node that serves its model, so that asking for made-up names takes no memory.
    """

    def __init__(self) -> None:
        self._queues: dict[str | None, OrderedDict[str, NodeRecord]] = {}

    def join(self, node: NodeRecord) -> None:
        """Adds ``node``, whose id is not here yet, at the end of its models' queues."""
        for model in _models(node):
            self._queues.setdefault(model, OrderedDict())[node.id] = node

    def change(self, old: NodeRecord, new: NodeRecord) -> None:
        """Puts ``new`` in the places of ``old``, a node with the same id."""
        gone = _models(old) - _models(new)
        self._leave(old.id, gone)
        self.join(new)

    def leave(self, node: NodeRecord) -> None:
        """Takes ``node`` out of its queues."""
        self._leave(node.id, _models(node))

    def next(self, model: str | None) -> NodeRecord | None:
        """The node whose turn it is among those that serve ``model``, any for ``None``."""
        queue = self._queues.get(model)
        if queue is None:
            return None
        node_id, node = next(iter(queue.items()))
        queue.move_to_end(node_id)
        return node

    def _leave(self, node_id: str, models: set[str | None]) -> None:
        for model in models:
            queue = self._queues[model]
            del queue[node_id]
            if not queue:
                del self._queues[model]


def _models(node: NodeRecord) -> set[str | None]:
    return {None, *(model.name for model in node.models)}
