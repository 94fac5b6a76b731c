# SPDX-License-Identifier: MIT
"""A batch in the process of its model, which the reactor asks.

What is done there is ``executing``'s. That process imports nothing of this, nor Twisted with it.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from smls_node.executing import Begin, Executed, Plan
from smls_node.readers import Readers
from smls_node.runtimes.apart import RuntimeApart
from smls_node.works import Work


class ExecuteLater(Protocol):
    """Executes batches on the reactor's thread, which it does not block."""

    def __call__(self, works: Sequence[Work], begin: Begin) -> Coroutine[Any, Any, Executed]:
        """What comes of these works."""
        ...

    def look(self, seconds: float) -> None:
        """Goes on with what is done by now, or within ``seconds``, for which it blocks."""
        ...


class ExecutorApart:
    """Executes batches in the process of ``runtime``, which ``reactor`` asks."""

    def __init__(self, runtime: RuntimeApart, plan: Plan, reactor: Any) -> None:
        self._runtime = runtime
        self._readers = Readers(reactor)
        self._plan = runtime.plan(plan)
        self._before = 0.0
        """Seconds a work until its batch was run, of the last batch."""

    async def __call__(self, works: Sequence[Work], begin: Begin) -> Executed:
        """As ``Executor``; where the process dies, all fail."""
        begin(self._before * len(works))
        try:
            done: Executed = await self._runtime.execute(self._readers, self._plan, works)
        except Exception as error:
            return Executed([error] * len(works))
        self._before = (done.prepare + done.waiting) / len(works)
        return done

    def look(self, seconds: float) -> None:
        """See ``ExecuteLater``."""
        self._readers.look(seconds)
