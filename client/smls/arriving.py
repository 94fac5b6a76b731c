# SPDX-License-Identifier: MIT
"""How much memory bodies that are still arriving take together, and who has to make room. Pure.

Each upload has a bound of its own, but a thousand clients that each send nearly all of one and
then wait would fill the memory. So there is a bound over all, and where it is passed the sender
goes that began first: it is the slowest, and a quick one never pays for slow ones before it.
"""

from __future__ import annotations

from typing import Generic, TypeVar

Sender = TypeVar("Sender")


class Arriving(Generic[Sender]):
    """Who is sending a body, in the order in which they began; ``most`` is in bytes."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0
        self._senders: dict[Sender, int] = {}

    def add(self, sender: Sender, size: int) -> list[Sender]:
        """Takes in that ``sender`` sent ``size`` bytes; returns who is taken out to make room.

        Where one alone passes the bound, it is taken out too.
        """
        self._senders[sender] = self._senders.get(sender, 0) + size
        self.held += size
        out = []
        while self.held > self.most:
            out.append(next(iter(self._senders)))
            self.remove(out[-1])
        return out

    def remove(self, sender: Sender) -> None:
        """Takes ``sender`` out, if it is in: its body is whole, refused, or its client gone."""
        self.held -= self._senders.pop(sender, 0)
