# SPDX-License-Identifier: MIT
"""How many requests a client may send more than once.

Where all nodes fail, a client that tries each call everywhere multiplies the load just when it
hurts. So a second request, be it a retry or a hedge, is paid from a bucket that calls fill.
"""

from __future__ import annotations

from attrs import define

RETRY_FRACTION = 0.1
"""What a call adds: in the long run a tenth of the calls may be repeated."""

RETRY_FLOOR = 1.0
"""What a second adds at least, so that a client with few calls can repeat one."""

RESERVE = 100.0
"""What a bucket begins with and holds at most: a node that dies takes all that it had in flight
with it, and a client that has just begun has saved nothing."""

HEDGE_FRACTION = 0.02
HEDGE_RESERVE = 10.0
"""Hedges spend what they save; a burst of them would be the herd that they are to avoid."""

HEDGE_START = 2.0
"""A client with few calls saves for minutes, and loses its first late call meanwhile."""


@define
class Budget:
    """A leaky bucket: each call adds ``fraction``, or ``floor`` a second where that is more."""

    fraction: float = RETRY_FRACTION
    floor: float = RETRY_FLOOR
    reserve: float = RESERVE
    level: float = RESERVE
    _filled_at: float | None = None

    def call(self, now: float) -> None:
        """A call begins."""
        since = 0.0 if self._filled_at is None else max(0.0, now - self._filled_at)
        self._filled_at = now
        self.level = min(self.reserve, self.level + max(self.fraction, self.floor * since))

    def take(self) -> bool:
        """Pays for one more request, if there is enough."""
        if self.level < 1:
            return False
        self.level -= 1
        return True


def hedge_budget() -> Budget:
    """The budget of hedges, which is spent beside that of retries."""
    return Budget(fraction=HEDGE_FRACTION, floor=0.0, reserve=HEDGE_RESERVE, level=HEDGE_START)
