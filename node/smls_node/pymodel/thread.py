# SPDX-License-Identifier: MIT
"""The one thread in which a user's own model lives, with an asyncio loop for what is async."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from typing import Any

END_SECONDS = 5.0
"""What is left of tasks may take so long to end; then the thread is left behind."""


class ModelThread:
    """Calls what it is given in a thread of its own, from ``start`` to ``stop``."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        # A daemon, since a model that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> ModelThread:
        self._thread.start()
        return self

    def call(
        self, function: Callable[..., Any], *given: Any, timeout_seconds: float | None = None
    ) -> Any:
        """What ``function`` gives, awaited where it is to be. Blocks; not for the thread itself.

        :raises TimeoutError: after ``timeout_seconds``, where these are given.
        :raises Exception: whatever it raises; an attempt to exit is a ``RuntimeError``.
        """
        called = asyncio.run_coroutine_threadsafe(_called(function, given), self._loop)
        return called.result(timeout_seconds)

    def stop(self) -> bool:
        """Ends the thread, and the tasks that are left in it; says whether it is gone."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(END_SECONDS)
        return not self._thread.is_alive()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


async def _called(function: Callable[..., Any], given: tuple[Any, ...]) -> Any:
    try:
        result = function(*given)
        return await result if inspect.isawaitable(result) else result
    except (SystemExit, KeyboardInterrupt) as error:
        # These would end the loop, and whoever waits for it would wait for ever.
        told = RuntimeError(f"the model's code tried to exit: {error!r}")
        raise told.with_traceback(error.__traceback__) from None
