# SPDX-License-Identifier: MIT
"""The nodes as a list shows them, and how the list came to be: revisions and changes.

Its laws:

- A change has a revision, greater than that of the change before. What changes nothing that a list
  could show has none.
- The changes that are kept are all there were since the oldest of them: a reader that stands at
  one of their revisions needs nothing but those after it.
- A revision means something only beside its ``history``, a name that no other roster has, unless
  both copy the same source.

Pure, and not safe for threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from attrs import frozen

from smls.wire import Delta, Listing, NodeRecord
from smls_registry.turns import Turns

KEPT_CHANGES = 1000
"""A watcher that missed more is served faster by a snapshot."""


@frozen
class Change:
    """One revision: the nodes that it concerned, as they were before and as they are now.

    ``what`` happened to them is told in the log.
    """

    revision: int
    what: str
    was: tuple[NodeRecord, ...]
    now: tuple[NodeRecord, ...]

    def delta(self, model: str | None) -> Delta | None:
        """What it means to who watches ``model``, all nodes for ``None``; ``None`` for nothing."""
        put = tuple(node for node in self.now if node.serves(model))
        stay = {node.id for node in put}
        gone = tuple(node.id for node in self.was if node.serves(model) and node.id not in stay)
        return Delta(self.revision, put, gone) if put or gone else None


class Roster:
    """The nodes at ``revision``, their turns, and the changes of late.

    ``listeners`` are called with each change when it is made.
    """

    def __init__(self, history: str, *, revision: int = 0, kept: int = KEPT_CHANGES) -> None:
        self.history = history
        self.revision = revision
        self.listeners: list[Callable[[Change], None]] = []
        self._nodes: dict[str, NodeRecord] = {}
        self._ids: dict[str, str] = {}
        self._turns = Turns()
        self._changes: deque[Change] = deque(maxlen=kept)
        self._reaches_to = revision

    def __len__(self) -> int:
        return len(self._nodes)

    def get(self, node_id: str) -> NodeRecord | None:
        """The node with that id, if there is one."""
        return self._nodes.get(node_id)

    def at(self, address: str) -> NodeRecord | None:
        """The node at that address, if there is one."""
        node_id = self._ids.get(address)
        return None if node_id is None else self._nodes[node_id]

    def listing(self, model: str | None = None) -> Listing:
        """The nodes that serve ``model``, all for ``None``, by address."""
        serving = [node for node in self._nodes.values() if node.serves(model)]
        return Listing(self.revision, tuple(sorted(serving, key=lambda node: node.address)))

    def next(self, model: str | None = None) -> NodeRecord | None:
        """The node whose turn it is among those that serve ``model``, any for ``None``."""
        return self._turns.next(model)

    def count(self, model: str | None) -> int:
        """How many nodes serve ``model``, all for ``None``."""
        return self._turns.count(model)

    def change(
        self,
        what: str,
        put: Iterable[NodeRecord] = (),
        gone: Iterable[str] = (),
        revision: int | None = None,
    ) -> Change | None:
        """Puts and takes out nodes in one step; ``None`` where that changes nothing.

        A node that is put replaces one with its id, and one at its address, a former one of
        ``put`` too. ``revision`` is the next one where left out; one that was seen already
        changes nothing.
        """
        if revision is None:
            revision = self.revision + 1
        elif revision <= self.revision:
            return None
        latest = {node.address: node for node in put}.values()
        now = tuple(node for node in latest if self._nodes.get(node.id) != node)
        leaving = {node_id: None for node_id in gone if node_id in self._nodes}
        for node in now:
            leaving |= {held: None for held in (self._ids.get(node.address), node.id) if held}
        was = tuple(self._nodes[node_id] for node_id in leaving if node_id in self._nodes)
        if not now and not was:
            return None
        self._replace(was, now)
        if len(self._changes) == self._changes.maxlen:
            self._reaches_to = self._changes[0].revision
        self.revision = revision
        change = Change(revision, what, was, now)
        self._changes.append(change)
        for listener in list(self.listeners):
            listener(change)
        return change

    def since(self, history: str, revision: int) -> list[Change] | None:
        """The changes after ``revision``; ``None`` where they are not known any more, or yet."""
        if history != self.history or not self._reaches_to <= revision <= self.revision:
            return None
        return [change for change in self._changes if change.revision > revision]

    def _replace(self, was: tuple[NodeRecord, ...], now: tuple[NodeRecord, ...]) -> None:
        staying = {node.id: node for node in now}
        for node in was:
            del self._ids[node.address]
            if node.id not in staying:
                del self._nodes[node.id]
                self._turns.leave(node)
        for node in now:
            old = self._nodes.get(node.id)
            if old is None:
                self._turns.join(node)
            else:
                self._turns.change(old, node)
            self._nodes[node.id] = node
            self._ids[node.address] = node.id
