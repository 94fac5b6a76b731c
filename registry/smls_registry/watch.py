# SPDX-License-Identifier: MIT
"""Tells those who watch what changes: a snapshot, or what they missed, then each change.

A change costs one serialisation a model that is watched, and one write a watcher. Changes that
come faster than ``GAP_SECONDS`` are told together, in order, in one write a watcher: a thousand
nodes that come back at once would take a million writes. A watcher that comes while changes wait
is served with them, so that it gets none twice.
"""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from smls_registry.events import HEARTBEAT, EventId, Snapshots, delta_event
from smls_registry.roster import Change
from smls_registry.stores import Store
from smls_registry.streams import Stream

GAP_SECONDS = 0.05
"""A change waits no longer than this for its turn; a change by itself does not wait."""


class Watchers:
    """The streams that watch the roster of ``store``."""

    def __init__(self, store: Store, clock: IReactorTime) -> None:
        self._store = store
        self._roster = roster = store.roster
        self._clock = clock
        self._snapshots = Snapshots(roster)
        self._streams: dict[str | None, set[Stream]] = {}
        self._changes: list[Change] = []
        self._coming: list[tuple[Stream, str | None, EventId | None]] = []
        self._history = roster.history
        self._told_at = clock.seconds() - GAP_SECONDS
        self._telling: IDelayedCall | None = None
        roster.listeners.append(self._changed)

    def add(self, stream: Stream, model: str | None, last: EventId | None) -> None:
        """Tells ``stream`` of the nodes that serve ``model``, all for ``None``, until it closes.

        It starts after ``last`` where the changes since then are known, else with a snapshot.
        """
        if self._changes:
            self._coming.append((stream, model, last))
        else:
            self._join(stream, model, last)

    def stop(self) -> None:
        """Tells what waits."""
        if self._telling is not None:
            self._telling.cancel()
            self._tell()

    def _join(self, stream: Stream, model: str | None, last: EventId | None) -> None:
        if stream.closed.called:
            return
        self._check_history()
        missed = None if last is None else self._roster.since(last.history, last.revision)
        if missed is None:
            stream.write(self._snapshots.event(model, self._store.settling))
        else:
            # Where nothing was missed, this is how a watcher learns that its list holds.
            stream.write(self._deltas(missed, model) or HEARTBEAT)
        self._streams.setdefault(model, set()).add(stream)

        def closed(by_reader: bool) -> bool:
            self._streams[model].discard(stream)
            if not self._streams[model]:
                del self._streams[model]
            return by_reader

        stream.closed.addCallback(closed)

    def _changed(self, change: Change) -> None:
        self._changes.append(change)
        if self._telling is None:
            wait = self._told_at + GAP_SECONDS - self._clock.seconds()
            # A reactor's clock may have been set back.
            self._telling = self._clock.callLater(min(max(0.0, wait), GAP_SECONDS), self._tell)

    def _tell(self) -> None:
        self._telling = None
        self._check_history()
        self._told_at = self._clock.seconds()
        changes, self._changes = self._changes, []
        coming, self._coming = self._coming, []
        for model, streams in list(self._streams.items()):
            data = self._deltas(changes, model)
            if data:
                for stream in list(streams):
                    stream.write(data)
        for each in coming:
            self._join(*each)

    def _check_history(self) -> None:
        """Who watched another history comes back for a snapshot of this one."""
        if self._history == self._roster.history:
            return
        self._history = self._roster.history
        for streams in list(self._streams.values()):
            for stream in list(streams):
                stream.end()

    def _deltas(self, changes: list[Change], model: str | None) -> bytes:
        deltas = (change.delta(model) for change in changes)
        history = self._roster.history
        return b"".join(delta_event(history, delta) for delta in deltas if delta is not None)
