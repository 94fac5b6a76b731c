# SPDX-License-Identifier: MIT
"""Where Python stands when it has stood still: on standard error, by a thread that needs no lock.

A model in the node's own process that hangs with Python's lock stops all of it: nothing answers,
nothing is logged, and no signal but SIGKILL ends it. All that can be told then is where.
"""

from __future__ import annotations

import faulthandler
from typing import Any

from twisted.internet.task import LoopingCall

STALL_SECONDS = 30.0
"""A reactor that has had no turn for so long hangs, or the process was stopped."""

STANDARD_ERROR = 2
"""Its descriptor: nothing of Python's can be used by then."""


class StallWatch:
    """From ``start`` to ``stop`` the tracebacks of all threads are written each time that
    ``reactor`` has had no turn for ``seconds``. For one reactor of a process."""

    def __init__(self, reactor: Any, seconds: float = STALL_SECONDS) -> None:
        self._seconds = seconds
        self._beating = LoopingCall(self._beat)
        self._beating.clock = reactor

    def start(self) -> None:
        self._beating.start(self._seconds / 6)

    def stop(self) -> None:
        if self._beating.running:
            self._beating.stop()
            faulthandler.cancel_dump_traceback_later()

    def _beat(self) -> None:
        faulthandler.dump_traceback_later(self._seconds, file=STANDARD_ERROR)
