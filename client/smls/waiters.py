# SPDX-License-Identifier: MIT
"""Those who wait until nothing is left of something, such as a server's open connections."""

from __future__ import annotations

from collections.abc import Collection

from twisted.internet.defer import Deferred


class Waiters:
    """Those who wait until a set is empty."""

    def __init__(self) -> None:
        self._waiting: list[Deferred[None]] = []

    def wait(self, members: Collection[object]) -> Deferred[None]:
        """Fires once ``members`` is empty, at once if it is."""
        waiter: Deferred[None] = Deferred()
        self._waiting.append(waiter)
        self.tell(members)
        return waiter

    def tell(self, members: Collection[object]) -> None:
        """Notes what the set holds now."""
        if not members:
            waiting, self._waiting = self._waiting, []
            for waiter in waiting:
                waiter.callback(None)
