# SPDX-License-Identifier: MIT
"""Several processes of one node: which of them is to be started when, and who is next. Pure.

The laws:

- A replica is started once at a time: after it was started, it is not due before it has ended.
- One that ends is due again after a pause, which grows while its lives are short (``Backoff``).
- Connections go to those that are ready, in turns: none gets two while another gets none.
- Once told to stop, no replica is due, and none gets a connection.
"""

from __future__ import annotations

from attrs import Factory, define

from smls_node.backoff import Backoff


@define
class _Replica:
    """``due`` is when it is to be started, or ``None`` while it runs or is gone for good."""

    due: float | None
    started: float = 0.0
    runs: bool = False
    backoff: Backoff = Factory(Backoff)


class Replicas:
    """``count`` replicas, known by their numbers from 1 on; all of them are due at once."""

    def __init__(self, count: int, now: float) -> None:
        self.was_complete = False
        self._replicas = {number: _Replica(now) for number in range(1, count + 1)}
        self._turns: list[int] = []
        self._stopping = False

    @property
    def count(self) -> int:
        return len(self._replicas)

    @property
    def ready(self) -> frozenset[int]:
        """Those that take connections."""
        return frozenset(self._turns)

    @property
    def running(self) -> list[int]:
        """Those that have been started and have not ended."""
        return [number for number, each in self._replicas.items() if each.runs]

    def due(self, now: float) -> list[int]:
        """Those that are to be started."""
        return [
            number
            for number, each in self._replicas.items()
            if each.due is not None and each.due <= now
        ]

    def started(self, number: int, now: float) -> None:
        """Notes that a replica which was due has been started."""
        replica = self._replicas[number]
        replica.due, replica.started, replica.runs = None, now, True

    def is_ready(self, number: int) -> bool:
        """Notes that a replica takes connections from now on. Whether that makes all of them
        ready for the first time."""
        if not self._stopping and number not in self._turns:
            self._turns.append(number)
        if self.was_complete or len(self._turns) < self.count:
            return False
        self.was_complete = True
        return True

    def is_leaving(self, number: int) -> None:
        """Notes that a replica takes no more connections."""
        if number in self._turns:
            self._turns.remove(number)

    def ended(self, number: int, now: float) -> float | None:
        """Notes that a replica has ended; the seconds until it is due, if it ever is again."""
        self.is_leaving(number)
        replica = self._replicas[number]
        replica.runs = False
        if self._stopping:
            return None
        pause = replica.backoff.ended(now - replica.started)
        replica.due = now + pause
        return pause

    def turn(self) -> int | None:
        """Who gets the next connection, if anyone is ready."""
        if not self._turns:
            return None
        self._turns.append(self._turns.pop(0))
        return self._turns[-1]

    def stop(self) -> None:
        """Starts none from now on."""
        self._stopping = True
        self._turns.clear()
        for replica in self._replicas.values():
            replica.due = None
