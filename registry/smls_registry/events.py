# SPDX-License-Identifier: MIT
"""What travels on a watch, as server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import json
import re

from attrs import frozen

from smls.wire import NAME, Delta, NodeRecord, delta_to_json, node_to_json
from smls_registry.roster import Roster

HEARTBEAT = b": heartbeat\n\n"
"""A comment: it shows that the stream lives, and is no event."""

_EVENT_ID = re.compile(f"(?P<history>{NAME.pattern}):(?P<revision>[0-9]{{1,19}})")


@frozen
class EventId:
    """Where a watcher stands: a revision of a history."""

    history: str
    revision: int

    @classmethod
    def parse(cls, header: bytes) -> EventId | None:
        """The id that a ``Last-Event-ID`` holds, ``None`` where it holds none.

        >>> EventId.parse(b"5f3a:17"), EventId.parse(b"17")
        (EventId(history='5f3a', revision=17), None)
        """
        match = _EVENT_ID.fullmatch(header.decode("latin-1"))
        return None if match is None else cls(match["history"], int(match["revision"]))

    def __str__(self) -> str:
        return f"{self.history}:{self.revision}"


def delta_event(history: str, delta: Delta) -> bytes:
    """The event that tells ``delta``."""
    return _event("delta", EventId(history, delta.revision), json.dumps(delta_to_json(delta)))


class Snapshots:
    """The roster's state as events; each node's JSON is made once, each snapshot once a revision.

    With a thousand nodes a snapshot takes tens of milliseconds to make from nothing.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._nodes: dict[str, tuple[NodeRecord, str]] = {}
        self._made: dict[str | None, tuple[tuple[EventId, bool], bytes]] = {}

    def event(self, model: str | None, settling: bool = False) -> bytes:
        """The event that tells the nodes which serve ``model``, all for ``None``."""
        at = EventId(self._roster.history, self._roster.revision), settling
        made = self._made.get(model)
        if made is None or made[0] != at:
            if any(known != at for known, _ in self._made.values()):
                self._made.clear()
            self._made[model] = made = (at, self._make(model, at))
        return made[1]

    def _make(self, model: str | None, at: tuple[EventId, bool]) -> bytes:
        event_id, settling = at
        listing = self._roster.listing(model)
        texts = {node.id: (node, self._text(node)) for node in listing.nodes}
        if model is None:
            self._nodes = texts
        nodes = ", ".join(text for _, text in texts.values())
        rest = ', "settling": true' if settling else ""
        data = f'{{"revision": {listing.revision}, "nodes": [{nodes}]{rest}}}'
        return _event("snapshot", event_id, data)

    def _text(self, node: NodeRecord) -> str:
        known = self._nodes.get(node.id)
        if known is not None and known[0] is node:
            return known[1]
        return json.dumps(node_to_json(node))


def _event(kind: str, at: EventId, data: str) -> bytes:
    return f"event: {kind}\nid: {at}\ndata: {data}\n\n".encode()
