# SPDX-License-Identifier: MIT
"""Threads for work that may hang for ever: of a pool they would be missing, and hold up its end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from twisted.python.failure import Failure


class OwnThreads:
    """Runs each piece of work in a thread of its own, which ends with it, or with the process."""

    def callInThreadWithCallback(
        self,
        on_result: Callable[[bool, Any], None],
        work: Callable[..., Any],
        *given: Any,
        **named: Any,
    ) -> None:
        """As ``twisted.python.threadpool.ThreadPool`` has it."""

        def run() -> None:
            try:
                result: Any = work(*given, **named)
                is_success = True
            except BaseException:
                result, is_success = Failure(), False
            on_result(is_success, result)

        threading.Thread(target=run, daemon=True).start()
