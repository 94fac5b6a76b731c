# SPDX-License-Identifier: MIT
"""A batch from what was sent to what is answered, in the thread or in the process of its model.

The inputs of a batch are prepared (images are decoded), the model is run, and the answers are
made. At most ``runs`` batches are run at once; others are prepared meanwhile, so that neither
starves the other. Where the model has a process of its own, all of it happens there, and the
reactor asks it: an upload is smaller than its pixels, and Python's lock is left to who speaks HTTP.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from attrs import frozen

from smls.errors import SmlsError
from smls_node.joining import Runner
from smls_node.runtimes import Runtime
from smls_node.settings import Limits
from smls_node.works import Classifier, Work


@frozen(eq=False)
class Executed:
    """The answers to a batch in its order, an exception for who has none; and its seconds:
    preparing, ``waiting`` for a run to end, and finishing."""

    results: Sequence[Any]
    prepare: float = 0.0
    waiting: float = 0.0
    finish: float = 0.0


Begin = Callable[[float], None]
"""Is told when the run begins: in so many seconds, as far as that is known."""

Execute = Callable[[Sequence[Work], Begin], Executed]
"""Blocks until these works are done; several threads may ask at once."""

Run = Callable[[Sequence[Any]], Sequence[Any]]
"""Runs a model on what was prepared: for each its outputs, or the exception that it causes."""


@frozen
class Plan:
    """How the batches of a model are executed, as it travels to the model's process."""

    limits: Limits
    runs: int
    classifier: Classifier | None = None

    def executor(self, runtime: Runtime, seconds: Callable[[], float] = time.monotonic) -> Execute:
        """Executes batches of ``runtime``, which is here. ``seconds`` reads a monotonic clock."""
        runner = Runner(runtime, self.limits.padded)
        return Executor(runner, self.runs, self.classifier, seconds)


class Executor:
    """Executes batches in the thread that asks for it. ``seconds`` reads a monotonic clock."""

    def __init__(
        self,
        run: Run,
        runs: int,
        classifier: Classifier | None = None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = run
        self._runs = threading.BoundedSemaphore(runs)
        self._classifier = classifier
        self._seconds = seconds

    def __call__(self, works: Sequence[Work], begin: Begin) -> Executed:
        """Blocks until ``works`` are done. Several threads may ask at once."""
        begun = self._seconds()
        inputs = [self._prepared(work) for work in works]
        prepared = self._seconds()
        with self._runs:
            running = self._seconds()
            begin(0.0)
            given = [each for each in inputs if not isinstance(each, Exception)]
            outputs = iter(self._run(given) if given else ())
        inferred = self._seconds()
        results = [
            each if isinstance(each, Exception) else self._finished(work, next(outputs))
            for work, each in zip(works, inputs, strict=True)
        ]
        finish = self._seconds() - inferred
        return Executed(results, prepared - begun, running - prepared, finish)

    def _prepared(self, work: Work) -> Any:
        try:
            return work.prepare(self._classifier)
        except Exception as error:
            return _let_go(error)

    def _finished(self, work: Work, outputs: Any) -> Any:
        if isinstance(outputs, Exception):
            return outputs
        try:
            return work.finish(self._classifier, outputs)
        except Exception as error:
            return _let_go(error)


def _let_go(error: Exception) -> Exception:
    """``error`` without the frames that it came through, where nobody will read them: they hold
    its batch, and it, until Python looks for such cycles."""
    if isinstance(error, SmlsError):
        error.__traceback__ = error.__cause__ = error.__context__ = None
    return error
