# SPDX-License-Identifier: MIT
"""Runtimes in a process of their own, used as those of this process are.

For libraries of which a process can have one setting, or whose memory does not come back. A
process apart starts with its first runtime and ends with its last one, or with the node however
that ends. Where it dies, the batches that it ran fail, and it is started again.

The laws:

- A batch is run once or fails: it is never sent again to a process that was started since.
- While there is no process, batches are refused at once, with when to come back.
- What ends soon after it started is started again later each time, up to
  ``backoff.LONGEST_SECONDS``. So is tried again what cannot be loaded in a process that was.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from smls.errors import ModelUnusable, NodeFault, Overloaded, SmlsError
from smls.tensors import Tensors
from smls_node.backoff import Backoff, pause_before
from smls_node.runtimes import Runtime
from smls_node.runtimes.channel import Closed
from smls_node.runtimes.forks import Life, fresh
from smls_node.runtimes.process import Process
from smls_node.signature import Signature

RETRY_SECONDS = 2.0
"""What is told to those who come meanwhile: about what importing TensorFlow takes."""


class RuntimeApart:
    """A runtime in another process. Made by ``Apart.load``."""

    def __init__(self, apart: Apart, number: int, how: Callable[[], Runtime]) -> None:
        self.number = number
        self.how = how
        self.signatures: Mapping[str, Signature]
        self.example: Tensors
        self.failure: SmlsError | None = None
        self.plans: list[Any] = []
        self._apart = apart

    @property
    def process(self) -> str:
        """See ``Runtime``."""
        return f"not loaded: {self.failure}" if self.failure else self._apart.told()

    @property
    def problem(self) -> str:
        """See ``Runtime``: why its process is not there, or does not have it."""
        return self.failure.message if self.failure else self._apart.problem

    def infer(self, inputs: Tensors, signature: str, parameters: Mapping[str, Any]) -> Tensors:
        """See ``Runtime``; what fails in the other process fails here in the same way.

        :raises NodeFault: where the process dies meanwhile.
        :raises Overloaded: where it has died and is not there again yet.
        """
        self._check()
        outputs: Tensors = self._apart.ask(
            "infer", self.number, dict(inputs), signature, dict(parameters)
        )
        return outputs

    def plan(self, plan: Any) -> int:
        """The number of ``plan``, which makes in the other process what executes batches there;
        see ``smls_node.executing``."""
        return self._apart.plan(self, plan)

    async def execute(self, reactor: Any, plan: int, works: Sequence[Any]) -> Any:
        """What comes of ``works`` by the plan of that number. For the thread of ``reactor``.

        :raises NodeFault, Overloaded: as ``infer``.
        """
        self._check()
        return await self._apart.ask_later(reactor, "execute", self.number, plan, works)

    def unload(self) -> None:
        """Frees the runtime; with the last one of a process, the process ends."""
        self._apart.unload(self)

    def _check(self) -> None:
        if self.failure is not None:
            raise NodeFault(self.failure.message)


class Apart:
    """A process of its own for some runtimes. ``why`` says for people what it is for.

    Where ``in_background``, others go before what is loaded. ``begin`` begins the process, and
    ``seconds`` reads a monotonic clock.
    Every method may be called in any thread, and blocks, but those that say otherwise.
    """

    log = Logger()

    def __init__(
        self,
        why: str,
        seconds: Callable[[], float] = time.monotonic,
        *,
        in_background: bool = False,
        begin: Callable[[socket.socket], Life] = fresh,
    ) -> None:
        self._why = why
        self._in_background = in_background
        self._begin = begin
        self._seconds = seconds
        self._numbers = itertools.count()
        self._runtimes: list[RuntimeApart] = []
        self._process: Process | None = None
        self._serving: Process | None = None
        self._problem = "it is starting"
        self._backoff = Backoff()
        self._changing = threading.RLock()
        self._closed = threading.Event()

    def load(self, load: Callable[..., Runtime], *given: Any, **named: Any) -> RuntimeApart:
        """What ``load(*given, **named)`` gives, in the process; ``load`` is found there by its
        module and name.

        :raises ModelUnusable: where the process dies of it.
        :raises Exception: whatever ``load`` raises.
        """
        runtime = RuntimeApart(self, next(self._numbers), partial(load, *given, **named))
        with self._changing:
            process = self._serving or self._start()
            try:
                self._load(runtime, process)
                self._runtimes.append(runtime)
            except Closed:
                raise ModelUnusable(
                    f"the process in which the model was to be loaded {process.how_it_ended()}"
                ) from None
            finally:
                if not self._runtimes:
                    self._end()
        return runtime

    def ask(self, verb: str, *given: Any) -> Any:
        """What the process answers.

        :raises NodeFault: where it dies meanwhile.
        :raises Overloaded: where it is not there.
        """
        process = self._there()
        try:
            return process.ask(verb, *given)
        except Closed:
            raise self._lost(process) from None

    async def ask_later(self, reactor: Any, verb: str, *given: Any) -> Any:
        """As ``ask``, for the thread of ``reactor``, which it does not block."""
        process = self._there()
        try:
            return await process.ask_later(reactor, verb, *given)
        except Closed:
            threads = reactor.getThreadPool()
            raise await deferToThreadPool(reactor, threads, self._lost, process) from None

    def plan(self, runtime: RuntimeApart, plan: Any) -> int:
        """As ``RuntimeApart.plan``; a process that is started later has it too."""
        with self._changing:
            if plan not in runtime.plans:
                runtime.plans.append(plan)
                if self._serving is not None:
                    with contextlib.suppress(Closed):
                        self._serving.ask("plan", runtime.number, plan)
            return runtime.plans.index(plan)

    @property
    def is_used(self) -> bool:
        """Whether there is a runtime in it."""
        return bool(self._runtimes)

    @property
    def problem(self) -> str:
        """Why the process is not there just now; empty where it is."""
        return "" if self._serving else self._problem

    def told(self) -> str:
        """Which process it is and what for, or why there is none just now."""
        process = self._serving
        state = f"process {process.id}" if process else f"no process, {self._problem}"
        return f"{state} ({self._why})"

    def unload(self, runtime: RuntimeApart) -> None:
        """Frees ``runtime``."""
        self._runtimes.remove(runtime)
        process = self._process
        is_loaded = self._serving is not None and runtime.failure is None
        if process is not None and not is_loaded and not self._runtimes:
            # It may hang where it is loaded again.
            process.end()
        with self._changing:
            if self._serving is not None:
                # Where the process dies, it is freed even so: the next one starts without it.
                with contextlib.suppress(Closed):
                    self._serving.ask("unload", runtime.number)
            if not self._runtimes:
                self._end()

    def close(self) -> None:
        """Ends the process at once, for good."""
        self._closed.set()
        process = self._process
        if process is not None:
            process.end()

    def _load(self, runtime: RuntimeApart, process: Process) -> None:
        runtime.signatures, runtime.example = process.ask(
            "load", runtime.number, runtime.how, self._in_background
        )
        for plan in runtime.plans:
            process.ask("plan", runtime.number, plan)

    def _start(self) -> Process:
        """Starts a process and loads in it what was there before."""
        process = self._process = Process(self._seconds(), self._ended, self._begin)
        if self._closed.is_set():
            process.end()
        try:
            self._load_again(self._runtimes, process)
        except Closed:
            return process
        self._serving = process
        return process

    def _load_again(self, runtimes: Iterable[RuntimeApart], process: Process) -> None:
        """Loads what was in another process before; what fails says so by itself.

        :raises Closed: where the process is gone.
        """
        for runtime in tuple(runtimes):
            try:
                self._load(runtime, process)
                runtime.failure = None
            except Closed:
                raise
            except Exception as error:
                runtime.failure = error if isinstance(error, SmlsError) else NodeFault(str(error))
                self.log.error(
                    "process {id}: a model could not be loaded again, and is tried later: {error}",
                    id=process.id,
                    error=str(error),
                )

    def _end(self) -> None:
        process, self._process, self._serving = self._process, None, None
        if process is not None:
            process.end()

    def _ended(self, process: Process) -> None:
        """Called in a thread of its own when ``process`` is gone: starts the next one, and stays
        until all that was there is there again."""
        if self._process is not process or not self._runtimes or self._closed.is_set():
            return
        self._lose(process)
        lived = self._seconds() - process.started
        pause = self._backoff.ended(lived)
        self.log.error(
            "process {id} of its own for {why} {how} after {lived:.0f} s; "
            "started again in {pause:.1f} s",
            id=process.id,
            why=self._why,
            how=process.how_it_ended(),
            lived=lived,
            pause=pause,
        )
        if not self._closed.wait(pause) and (again := self._replace(process)) is not None:
            self._complete(again)

    def _there(self) -> Process:
        process = self._serving
        if process is None:
            raise Overloaded(
                f"the process of the model is not there: {self._problem}",
                retry_after_seconds=RETRY_SECONDS,
            )
        return process

    def _lost(self, process: Process) -> NodeFault:
        """What is told of a question that ``process`` had when it ended."""
        self._lose(process)
        how = process.how_it_ended()
        return NodeFault(f"the process of the model {how} while it had the batch")

    def _lose(self, process: Process) -> None:
        """Sends nothing more to ``process``, which has ended."""
        problem = f"process {process.id} {process.how_it_ended()}, and is started again"
        if self._serving is process:
            self._problem, self._serving = problem, None

    def _replace(self, process: Process) -> Process | None:
        with self._changing:
            if self._process is not process or not self._runtimes:
                return None
            again = self._start()
            if self._serving is again:
                self.log.info("process {id} has taken its place", id=again.id)
            return again

    def _complete(self, process: Process) -> None:
        """Tries again what could not be loaded in ``process``, as long as that lives."""
        attempt = 0
        while self._missing(process):
            attempt += 1
            if self._closed.wait(pause_before(attempt)):
                return
            # Where it dies meanwhile, the next one is another thread's.
            with self._changing, contextlib.suppress(Closed):
                self._load_again(self._missing(process), process)

    def _missing(self, process: Process) -> set[RuntimeApart]:
        if self._serving is not process:
            return set()
        return {each for each in tuple(self._runtimes) if each.failure is not None}
