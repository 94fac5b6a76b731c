# SPDX-License-Identifier: MIT
"""Readers of a reactor that may be looked at out of turn.

The kernel hands out what is ready in turn: with thousands of connections, a few at a time
(``smls.turns``), what a model's process has answered would be read seconds later.
"""

from __future__ import annotations

import select
from typing import Any


class Readers:
    """Passes readers on to ``reactor``, and knows them. To others it is that reactor."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._open: dict[int, Any] = {}

    def addReader(self, reader: Any) -> None:
        self._open[reader.fileno()] = reader
        self._reactor.addReader(reader)

    def removeReader(self, reader: Any) -> None:
        del self._open[reader.fileno()]
        self._reactor.removeReader(reader)

    def look(self, seconds: float) -> None:
        """Reads what is there by now, or the first that comes within ``seconds``; blocks."""
        if not self._open:
            return
        # Not ``select``, which knows no descriptors above 1,023.
        poll = select.poll()
        for descriptor in self._open:
            poll.register(descriptor, select.POLLIN)
        for descriptor, _ in poll.poll(seconds * 1000):
            reader = self._open.get(descriptor)
            if reader is not None:
                reader.doRead()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)
