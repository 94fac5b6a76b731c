# SPDX-License-Identifier: MIT
"""``smls-node`` with a watch on its reactor; the name of a file stands before its options.

A timer is set each few milliseconds. How late it is tells for how long the reactor did something
else. At its end the program writes to the file, as JSON, the moment and the lateness of each, in
seconds of the system's monotonic clock, which all processes share.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

TICK_SECONDS = 0.005


def main() -> None:
    """Watches, and runs ``smls-node`` with the other arguments."""
    from twisted.internet import reactor

    from smls_node import tap

    file = Path(sys.argv.pop(1))
    late: list[tuple[float, float]] = []

    def tick(due: float) -> None:
        now = time.monotonic()
        late.append((now, now - due))
        reactor.callLater(TICK_SECONDS, tick, now + TICK_SECONDS)  # type: ignore[attr-defined]

    reactor.callWhenRunning(tick, time.monotonic())  # type: ignore[attr-defined]
    try:
        tap.main()
    finally:
        file.write_text(json.dumps(late))
