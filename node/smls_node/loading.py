# SPDX-License-Identifier: MIT
"""From the settings of a model to the model itself, loaded and warmed up. Blocks: use a thread."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from typing import Any

from attrs import evolve, frozen
from twisted.logger import Logger

from smls.errors import ModelUnusable
from smls_node import embedded, formats, machine, tuning
from smls_node.accelerating import accelerated
from smls_node.arrangement import Arrangement
from smls_node.batcher import Batcher
from smls_node.batchtime import BatchTime
from smls_node.catalogue import Model
from smls_node.executing import Plan
from smls_node.executingapart import ExecutorApart
from smls_node.factory import stamp
from smls_node.formats import GRAPH, KERAS, PYTHON, SAVED_MODEL, format_of, located
from smls_node.labels import read_labels
from smls_node.means import Means
from smls_node.modelfile import counts
from smls_node.pools import Beside
from smls_node.runtimes import GraphFiles, Runtime, tensorflow
from smls_node.runtimes.apart import RuntimeApart
from smls_node.settings import SOFTMAX, Limits, ModelSettings
from smls_node.tables import table_task
from smls_node.tasks import ImageTask, image_task
from smls_node.texts import text_task
from smls_node.worker import Workers
from smls_node.workersapart import WorkersApart
from smls_node.workerthreads import WorkerThreads
from smls_node.works import Classifier

LARGE_BYTES = 2**22
"""A graph that is larger is run in this process, which may as well import TensorFlow at once."""

EMBEDDED = ModelSettings(embedded.GRAPH, embedded.LABELS, name="digits")
"""What is served where no model is named."""


log = Logger()


@frozen
class _Opened:
    """A runtime and how it is run, as the factory keeps it."""

    runtime: Runtime
    arrangement: Arrangement

    def unload(self) -> None:
        self.runtime.unload()


def named_or_embedded(options: Any) -> tuple[ModelSettings, ...]:
    """The models that ``smls_node.tap.Options`` name, or the embedded one, run as they say."""
    unnamed = options["default"]
    if options["sources"]:
        return tuple(options["models"])
    return tuple(options["models"]) or (
        evolve(
            EMBEDDED,
            operator_threads=unnamed.operator_threads,
            runs=unnamed.runs,
            limits=unnamed.limits,
        ),
    )


def load(
    settings: ModelSettings,
    means: Means,
    *,
    beside: Beside | None = None,
    served: Model | None = None,
) -> Model:
    """The model, after its first run, with workers that are not yet started.

    Where it is loaded ``beside`` others that are served, nothing is measured and nothing proven,
    which would disturb them and be disturbed by them: what is not known is run as ``served``,
    another version of the model, is, and otherwise as most models run best.

    :raises ModelUnusable: where its files are missing, broken, or do not fit together.
    """
    labels = read_labels(settings.labels) if settings.labels else ()
    name = name_of(settings)
    settings = located(settings)
    key = key_of(settings, means)
    opened = means.factory.get(key, lambda: _open(settings, means, beside, served))
    runtime, arrangement = opened.runtime, opened.arrangement
    try:
        task = _image_task(settings, runtime)
        _check_labels(settings, labels, task)
    except ModelUnusable:
        means.factory.give_back(key)
        raise
    batches = any(signature.batches for signature in runtime.signatures.values())
    limits = settings.limits if batches else evolve(settings.limits, max_batch_size=1)
    time = BatchTime(arrangement.anchors)
    batcher = Batcher(limits, time, arrangement.workers, arrangement.largest_batch)
    classifier = Classifier(task, labels, means.decoding) if task and labels else None
    plan = Plan(limits, arrangement.runs, classifier)
    return Model(
        name,
        settings.version,
        runtime,
        arrangement,
        _workers(name, runtime, plan, batcher, means),
        task if labels else text_task(runtime.signatures) or table_task(runtime.signatures),
        labels,
        settings.platform or format_of(settings).platform,
        give_back=lambda: means.factory.give_back(key),
    )


def _workers(name: str, runtime: Runtime, plan: Plan, batcher: Batcher, means: Means) -> Workers:
    """Threads where the model is here; a process of its own is asked by the reactor."""
    seconds, reactor = means.seconds, means.reactor
    if isinstance(runtime, RuntimeApart):
        executor = ExecutorApart(runtime, plan, reactor)
        return WorkersApart(batcher, executor, seconds, reactor)
    return WorkerThreads(batcher, plan.executor(runtime, seconds), seconds, reactor, name)


def key_of(settings: ModelSettings, means: Means) -> Hashable:
    """What is the same for two that can be one object: a class of the user's own may see all."""
    own = settings.document
    if settings.implementation:
        files = stamp(settings.path, counts), own and stamp(own.path)
        return "runtime", evolve(settings, labels=None), files
    seen = evolve(settings, labels=None, platform="", limits=Limits())
    return "runtime", seen, stamp(settings.path), means.accelerate


def _open(
    settings: ModelSettings, means: Means, beside: Beside | None, served: Model | None
) -> _Opened:
    if format_of(settings) is GRAPH:
        return _Opened(*_graph(settings, means, beside, served))
    return _Opened(*_opened(settings, means, beside))


def _image_task(settings: ModelSettings, runtime: Runtime) -> ImageTask | None:
    try:
        return image_task(
            runtime.signatures,
            settings.mean,
            settings.std,
            settings.height,
            settings.width,
            layout=settings.layout,
            is_softmaxed=settings.scores == SOFTMAX,
        )
    except ModelUnusable as error:
        raise ModelUnusable(f"{settings.path}: {error.message}") from None


def _check_labels(settings: ModelSettings, labels: Sequence[str], task: ImageTask | None) -> None:
    if labels and task is None:
        raise ModelUnusable(
            f"{settings.labels}: labels are for models of images, which {settings.path} is not: "
            "wanted one input FP32[?, H, W, 3] or FP32[?, 3, H, W] and one output of scores; where "
            "H and W are open, give input_height and input_width"
        )
    if labels and task is not None and task.classes != len(labels):
        raise ModelUnusable(
            f"{settings.labels} has {len(labels)} labels, but {settings.path} gives "
            f"{task.classes} scores an image"
        )


def files_of(settings: ModelSettings) -> GraphFiles:
    """The graph and how it is to be fed."""
    return GraphFiles(
        settings.path,
        settings.input_layer,
        settings.output_layer,
        settings.mean,
        settings.std,
        settings.height,
        settings.width,
        settings.device,
    )


def _graph(
    settings: ModelSettings, means: Means, beside: Beside | None, served: Model | None
) -> tuple[Runtime, Arrangement]:
    files = files_of(settings)
    faster = accelerated(files, means, beside)
    if faster is not None:
        return faster
    found = _found(files, settings, means, beside is not None, served)
    threads, runs = found.operator_threads, found.runs
    if beside is not None:
        how = {"operator_threads": threads, "runs": runs}
        return beside.load(GRAPH.preloaded, tensorflow.load, files, **how), found
    is_quick = means.beside_http and found.is_quick
    return means.pools.load(tensorflow.load, files, threads, runs, is_quick=is_quick), found


def _opened(
    settings: ModelSettings, means: Means, beside: Beside | None
) -> tuple[Runtime, Arrangement]:
    """The model of any other format, run as told or as most models run best."""
    kind = format_of(settings)
    if means.accelerate != "off" and kind in (SAVED_MODEL, KERAS):
        log.info(
            "{path} stays in TensorFlow: graphs alone are accelerated, and "
            "smls-node freeze makes one of a model of images",
            path=str(settings.path),
        )
    found = _told(settings) or tuning.usual(machine.cores())
    if kind is PYTHON:
        found = _own(settings, found)
    how = {"operator_threads": found.operator_threads, "runs": found.runs}
    if beside is not None:
        return beside.load(kind.preloaded, formats.load, settings, **how), found
    if kind.is_pooled:
        runtime = means.pools.load(formats.load, settings, found.operator_threads, found.runs)
    else:
        runtime = formats.load(settings, **how)
    if not runtime.example or not means.may_measure:
        return runtime, found
    return runtime, evolve(found, anchors=tuple(tuning.sizes_of(runtime, found.runs).items()))


def _own(settings: ModelSettings, found: Arrangement) -> Arrangement:
    """How a class of the user's own is run: its code need not be safe for threads, and nothing is
    decoded beside its runs."""
    if settings.runs is None:
        return Arrangement(1, 1, 1, why="a class of the user's own")
    return evolve(found, workers=found.runs)


def _found(
    files: GraphFiles, settings: ModelSettings, means: Means, serving: bool, served: Model | None
) -> Arrangement:
    told = _told(settings)
    if told is not None:
        return told
    if means.may_measure and not serving:
        # What is no larger may turn out to be quick, and go to another process.
        if files.graph.stat().st_size > LARGE_BYTES:
            return tuning.arrangement_for(files, means.findings, tensorflow.preload)
        return tuning.arrangement_for(files, means.findings)
    found = tuning.known(files, means.findings)
    if found is not None:
        return found
    if served is None:
        return tuning.usual(machine.cores())
    why = f"as version {served.version} was; measured when the node starts again"
    return evolve(served.arrangement, why=why)


def _told(settings: ModelSettings) -> Arrangement | None:
    """How the operator wants the model run, where both numbers were given."""
    if settings.operator_threads is None or settings.runs is None:
        return None
    return tuning.told(settings.operator_threads, settings.runs, machine.cores())


def check_distinct(models: Sequence[ModelSettings]) -> None:
    """Checks that no two models have one name and one version.

    :raises ModelUnusable: naming the two graphs.
    """
    seen: dict[tuple[str, str], ModelSettings] = {}
    for settings in models:
        key = name_of(settings), settings.version
        if key in seen:
            raise ModelUnusable(
                f"{seen[key].path} and {settings.path} are both model {key[0]!r} version "
                f"{key[1]}; give one another --name or --version"
            )
        seen[key] = settings


def name_of(settings: ModelSettings) -> str:
    """The name that the model is told to have, or that of its file or folder; of a version's
    folder, that of the model's."""
    if settings.name:
        return settings.name
    path = settings.path.parent if settings.path.name.isdigit() else settings.path
    lawful = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem)[:128].lstrip("._-")
    return lawful or "model"
