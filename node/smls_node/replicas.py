# SPDX-License-Identifier: MIT
"""Several processes of one node: which of them is to be started when, and who is next. Pure.

The laws:

- A replica is started once at a time: after it was started, it is not due before it has ended.
- One that ends is due again after a pause, which grows while its lives are short (``Backoff``).
- Connections go to those that are ready, in turns: none gets two while another gets none.
- One that was ready and says nothing for ``SILENT_BEATS`` gets none, until it says something; after
  ``HUNG_BEATS`` it hangs. Beats are counted, not seconds: a supervisor that was stopped itself
  finds nobody silent who was not.
- Once told to stop, no replica is due, and none gets a connection.
"""

from __future__ import annotations

from attrs import Factory, define

from smls_node.backoff import Backoff

SILENT_BEATS = 4
"""Of half a second: noticed within 2 s. A replica is held up for 0.2 s by a collection of garbage,
and longer on a box that is far too busy, where it is better off without more connections."""

HUNG_BEATS = 120
"""A minute: a debugger or a frozen container may well wake it again."""


@define
class _Replica:
    """``due`` is when it is to be started, or ``None`` while it runs or is gone for good."""

    due: float | None
    started: float = 0.0
    runs: bool = False
    was_ready: bool = False
    unheard: int = 0
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
        replica.was_ready, replica.unheard = False, 0

    def is_ready(self, number: int) -> bool:
        """Notes that a replica takes connections from now on. Whether that makes all of them
        ready for the first time."""
        self._replicas[number].was_ready = True
        if not self._stopping and number not in self._turns:
            self._turns.append(number)
        if self.was_complete or len(self._turns) < self.count:
            return False
        self.was_complete = True
        return True

    def beat(self) -> list[int]:
        """Notes that the time of a beat has gone by; those that have fallen silent by it."""
        for replica in self._replicas.values():
            replica.unheard += replica.was_ready
        silent = [each for each in self._turns if self._replicas[each].unheard >= SILENT_BEATS]
        for number in silent:
            self.is_leaving(number)
        return silent

    def heard(self, number: int) -> bool:
        """Notes that a replica has said something. Whether it had been silent."""
        replica = self._replicas[number]
        was_silent = replica.unheard >= SILENT_BEATS
        replica.unheard = 0
        return was_silent

    @property
    def hung(self) -> list[int]:
        """Those that have been silent for so long that they are to be ended."""
        return [
            number
            for number, each in self._replicas.items()
            if each.runs and each.was_ready and each.unheard >= HUNG_BEATS
        ]

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
