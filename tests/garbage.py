# SPDX-License-Identifier: MIT
"""What is left for Python to find by looking for cycles."""

from __future__ import annotations

import gc
from collections.abc import Callable


def left_by(work: Callable[[], object]) -> list[object]:
    """The objects that know each other and that nobody else knows, once ``work`` is done."""
    gc.collect()
    gc.disable()
    try:
        work()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        return list(gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
