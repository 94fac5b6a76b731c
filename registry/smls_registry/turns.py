# SPDX-License-Identifier: MIT
"""Whose turn it is: for each model, the nodes that serve it take turns, suspects after the live."""

from __future__ import annotations

from collections import OrderedDict

from smls.wire import AVAILABLE, NodeRecord, NodeState

Place = tuple[str | None, NodeState]


class Turns:
    """Queues of nodes, one a model and one for all nodes, each for the live and for the suspects.

    A node that was asked for goes to the end of its queue, and so does a node that joins: in any
    stretch in which the same nodes stay, their turns differ by one at most. Suspects have a turn
    only where no live node serves the model. A queue lives as long as a node that serves its
    model, so that asking for made-up names takes no memory. Pure, and not safe for threads.
    """

    def __init__(self) -> None:
        self._queues: dict[Place, OrderedDict[str, NodeRecord]] = {}

    def join(self, node: NodeRecord) -> None:
        """Adds ``node``, whose id is not here yet, at the end of its queues."""
        for place in _places(node):
            self._queues.setdefault(place, OrderedDict())[node.id] = node

    def change(self, old: NodeRecord, new: NodeRecord) -> None:
        """Puts ``new`` in the places of ``old``, a node with the same id."""
        self._leave(old.id, _places(old) - _places(new))
        self.join(new)

    def leave(self, node: NodeRecord) -> None:
        """Takes ``node`` out of its queues."""
        self._leave(node.id, _places(node))

    def next(self, model: str | None) -> NodeRecord | None:
        """The node whose turn it is among those that serve ``model``, any for ``None``."""
        for state in NodeState:
            queue = self._queues.get((model, state))
            if queue is not None:
                node_id, node = next(iter(queue.items()))
                queue.move_to_end(node_id)
                return node
        return None

    def count(self, model: str | None) -> int:
        """How many nodes serve ``model``, all for ``None``."""
        return sum(len(self._queues.get((model, state), ())) for state in NodeState)

    def _leave(self, node_id: str, places: set[Place]) -> None:
        for place in places:
            queue = self._queues[place]
            del queue[node_id]
            if not queue:
                del self._queues[place]


def _places(node: NodeRecord) -> set[Place]:
    return {(model, node.state) for model in {None, *models(node)}}


def models(node: NodeRecord) -> set[str]:
    """The models that ``node`` answers for."""
    return {model.name for model in node.models if model.state == AVAILABLE}
