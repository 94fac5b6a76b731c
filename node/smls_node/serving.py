# SPDX-License-Identifier: MIT
"""The one way in to a node's models, whatever the dialect that asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Any, Protocol

from attrs import frozen
from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure

from smls.errors import BadRequest, DeadlineExceeded, Overloaded, SmlsError
from smls.log import fault
from smls.tensors import Tensors
from smls.wire import LoadReport
from smls_node.catalogue import Catalogue, Model
from smls_node.counts import CANCELLED, OK
from smls_node.labels import Prediction
from smls_node.signature import Inputs
from smls_node.tasks import ImageTask
from smls_node.worker import Job, Times, Workers
from smls_node.works import ClassifyWork, InferWork, Work

RETRY_LOADING_SECONDS = 2.0
RETRY_DRAINING_SECONDS = 1.0

DEFAULT_PRIORITY = 5
"""Priorities run from 1, which goes first, to 9."""


class Phase(Enum):
    """Where a node is in its life: each follows the one before."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"


@frozen
class Ask:
    """What a request wants: its model, how many labels, and by when (a moment, in seconds)."""

    deadline: float
    model: str | None = None
    version: str | None = None
    label: str | None = None
    top: int = 5
    priority: int = DEFAULT_PRIORITY


class ModelControl(Protocol):
    """Loads and unloads models on demand."""

    def load(self, name: str) -> Deferred[None]:
        """Fires when the model is served, anew where it is served by now.

        :raises ModelNotFound: where there is none to load.
        :raises ModelUnusable: where it cannot be loaded.
        """
        ...

    def unload(self, name: str) -> Deferred[None]:
        """Fires when the model is served no more.

        :raises ModelNotFound: where it is not served.
        """
        ...


@frozen
class Classified:
    """A model's answers to several images, in their order; an error stands in its item's place.

    ``times`` are those of the image that took longest.
    """

    model: Model
    results: tuple[tuple[Prediction, ...] | SmlsError, ...]
    times: Times
    load: LoadReport


@frozen
class Inferred:
    """The outputs of one of a model's signatures for the tensors of one request."""

    model: Model
    signature: str
    outputs: Tensors
    times: Times
    load: LoadReport


BACKLOG_SECONDS = 0.05
"""Longer than the reactor rests and then reads."""

GIVE_WAY_SECONDS = 0.01
"""As long as a turn of the reactor with so many connections takes itself."""


class Serving:
    """Runs the models in their workers while the node is ready.

    ``node`` is the name that answers carry; ``control`` loads and unloads models where the node
    does that on demand; ``seconds`` reads a monotonic clock, the workers' own.
    """

    log = Logger()

    def __init__(self, catalogue: Catalogue, seconds: Callable[[], float]) -> None:
        self.catalogue = catalogue
        self.seconds = seconds
        self.phase = Phase.LOADING
        self.node = ""
        self.control: ModelControl | None = None
        self._pending: dict[Job, _Pending] = {}

    def refusal(self) -> Overloaded | None:
        """Why the node takes no new requests now, where it takes none: faces ask before a body."""
        if self.phase is Phase.LOADING:
            return Overloaded(
                "the node is still loading its models", retry_after_seconds=RETRY_LOADING_SECONDS
            )
        if self.phase is Phase.DRAINING:
            return Overloaded(
                "the node is draining before it stops; ask another one",
                retry_after_seconds=RETRY_DRAINING_SECONDS,
            )
        return None

    def classify(self, uploads: Sequence[bytes], ask: Ask) -> Deferred[Classified]:
        """The best labels of each image. Cancelling takes what is still queued out of the queue.

        While the node drains, it answers: the request was let in before.

        :raises Overloaded: while the node loads, where the queue is full, or where no image could
            be answered in time.
        :raises BadRequest: where the model takes no images.
        :raises BadRequest, ModelNotFound: as ``Catalogue.find``.
        """
        model = self.find(ask)
        with _refusals_counted(model):
            if not isinstance(model.task, ImageTask):
                raise BadRequest(f"model {model.name} takes no images; see GET / for what it takes")
        asked = [
            self._submit(model, ClassifyWork(upload, ask.top), ask, len(upload))
            for upload in uploads
        ]

        def together(results: list[tuple[Prediction, ...] | SmlsError]) -> Classified:
            longest = max((pending.job for pending in asked), key=lambda job: job.times.total)
            load = longest.load or model.workers.load()
            return Classified(model, tuple(results), longest.times, load)

        if len(asked) == 1:
            return asked[0].answered.addCallback(lambda result: together([result]))
        return gatherResults(
            [pending.answered for pending in asked], consumeErrors=True
        ).addCallbacks(together, _unwrapped)

    def infer(
        self,
        inputs: Tensors,
        ask: Ask,
        signature: str | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Deferred[Inferred]:
        """The outputs of a signature, the first one where none is named, for ``inputs``.

        Where the signature batches, they may have any number of rows, and are run together with
        other requests' rows. ``parameters`` are for models that know them. Cancelling takes
        what is still queued out of the queue.

        :raises Overloaded: as ``classify``; also later, as the answer.
        :raises BadRequest: where there is no such signature, or it does not admit the inputs.
        :raises BadRequest, ModelNotFound: as ``Catalogue.find``.
        """
        model = self.find(ask)
        with _refusals_counted(model):
            name, wanted = model.signature(signature)
            rows = wanted.rows(inputs)
            bound = model.workers.batcher.limits.bound
            if bound is not None and rows > bound:
                told = f"inputs: got {rows} rows, wanted {bound} at most; send fewer at once"
                raise BadRequest(told)
        work = InferWork(Inputs(inputs, rows, name, parameters or {}))
        size = sum(array.nbytes for array in inputs.values())
        pending = self._submit(model, work, ask, size, rows)

        def answer(outputs: Tensors | SmlsError) -> Inferred:
            if isinstance(outputs, SmlsError):
                raise outputs
            job = pending.job
            return Inferred(model, name, outputs, job.times, job.load or model.workers.load())

        return pending.answered.addCallback(answer)

    def find(self, ask: Ask) -> Model:
        """The model that ``ask`` names.

        :raises Overloaded: while the node loads.
        :raises BadRequest, ModelNotFound: as ``Catalogue.find``.
        """
        refusal = self.refusal()
        if refusal is not None and self.phase is not Phase.DRAINING:
            raise refusal
        return self.catalogue.find(ask.model, ask.version, ask.label)

    def give_way(self) -> None:
        """Lets the workers go on, where requests come faster than they are served.

        Blocks the reactor for the busiest, ``GIVE_WAY_SECONDS`` at most: what it reads meanwhile
        would expire in the queue.
        """
        workers = [model.workers for model in self.catalogue.models]
        busiest = max(workers, key=lambda each: each.behind, default=None)
        for each in workers:
            each.give_way(GIVE_WAY_SECONDS if each is busiest and each.behind > 0 else 0.0)

    def may_rest(self) -> bool:
        """Whether what is read now would only wait, whatever its model: each has work for
        ``BACKLOG_SECONDS``, and wakes the reactor when a batch has ended."""
        workers = [model.workers for model in self.catalogue.models]
        return bool(workers) and all(
            each.wakes and each.backlog > BACKLOG_SECONDS for each in workers
        )

    def expire(self) -> None:
        """Answers each request whose deadline has come, even one whose model hangs."""
        now = self.seconds()
        for pending in list(self._pending.values()):
            if pending.deadline <= now:
                pending.expire()

    def _submit(
        self, model: Model, work: Work, ask: Ask, size_bytes: int, rows: int = 1
    ) -> _Pending:
        pending = _Pending(self, model.workers, work, ask.deadline)
        self._pending[pending.job] = pending
        model.workers.submit(
            pending.job,
            deadline=ask.deadline,
            priority=ask.priority,
            size_bytes=size_bytes,
            rows=rows,
        )
        return pending

    def told(self, error: Exception) -> SmlsError:
        """``error`` as what is told of it; a fault of ours is logged."""
        return error if isinstance(error, SmlsError) else fault(self.log, Failure(error))

    def forget(self, job: Job) -> _Pending | None:
        """Lets go of the request for ``job``, which is it, unless that was done before."""
        return self._pending.pop(job, None)

    def done(self, job: Job) -> None:
        """Answers the request for ``job``, unless it has expired or its client has left."""
        pending = self.forget(job)
        if pending is not None:
            failed = isinstance(job.result, Exception)
            pending.answer(self.told(job.result) if failed else job.result)


class _Pending:
    """A request that waits for its answer: the worker's, its deadline's, or none if it left."""

    def __init__(self, serving: Serving, workers: Workers, work: Work, deadline: float) -> None:
        self.deadline = deadline
        # Not a method of this, or the two would be left to the garbage collector.
        self.job = Job(work, serving.done)
        self.answered: Deferred[Any] = Deferred(lambda _: self._cancel())
        self._serving = serving
        self._workers = workers

    def answer(self, result: Any) -> None:
        code = result.code if isinstance(result, SmlsError) else OK
        self._workers.counts.outcomes[code] += 1
        self.answered.callback(result)

    def expire(self) -> None:
        self._leave()
        self.answer(DeadlineExceeded("the deadline came before the model had answered"))

    def _cancel(self) -> None:
        self._workers.counts.outcomes[CANCELLED] += 1
        self._leave()

    def _leave(self) -> None:
        self._workers.cancel(self.job)
        self._serving.forget(self.job)


@contextmanager
def _refusals_counted(model: Model) -> Iterator[None]:
    """Counts among the model's outcomes what is refused before it is in the queue."""
    try:
        yield
    except SmlsError as error:
        model.workers.counts.outcomes[error.code] += 1
        raise


def _unwrapped(failure: Failure) -> Failure:
    """What cancelled the images of a request, without what wraps it: none fails otherwise."""
    error = failure.value
    return error.subFailure if isinstance(error, FirstError) else failure
