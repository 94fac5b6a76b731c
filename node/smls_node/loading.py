# SPDX-License-Identifier: MIT
"""From the settings of a model to the model itself, loaded and warmed up. Blocks: use a thread."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from smls.errors import ModelUnusable
from smls_node import embedded, tuning
from smls_node.arrangement import Arrangement
from smls_node.batcher import Batcher, Limits
from smls_node.batchtime import BatchTime
from smls_node.catalogue import Model
from smls_node.labels import read_labels
from smls_node.runtimes import GraphFiles, tensorflow
from smls_node.settings import ModelSettings
from smls_node.worker import Workers

EMBEDDED = ModelSettings(embedded.GRAPH, embedded.LABELS, name="digits")
"""What is served where no model is named."""


@frozen
class Means:
    """What loading needs besides the model: where findings are kept, and what workers are made
    of (``Workers``). ``told`` is how to run the models, where the operator said so."""

    findings: Path
    limits: Limits
    seconds: Callable[[], float]
    wake: Callable[..., Any]
    told: Arrangement | None = None


def load(settings: ModelSettings, means: Means) -> Model:
    """The model, after its first run, with workers that are not yet started.

    :raises ModelUnusable: where its files are missing, broken, or do not fit together.
    """
    assert settings.labels is not None
    labels = read_labels(settings.labels)
    files = GraphFiles(
        settings.graph,
        settings.input_layer,
        settings.output_layer,
        settings.mean,
        settings.std,
        settings.height,
        settings.width,
    )
    if not settings.graph.is_file():
        raise ModelUnusable(f"{settings.graph}: there is no such file")
    arrangement = means.told or tuning.arrangement_for(files, means.findings)
    runtime = tensorflow.load(
        files, operator_threads=arrangement.operator_threads, runs=arrangement.runs
    )
    classes = runtime.signature.classes
    if classes != len(labels):
        runtime.unload()
        raise ModelUnusable(
            f"{settings.labels} has {len(labels)} labels, but {settings.graph} gives "
            f"{classes} scores an image"
        )
    name = settings.name or _name_of(settings)
    batcher = Batcher(
        means.limits if runtime.signature.batches else evolve(means.limits, max_batch_size=1),
        BatchTime(arrangement.anchors),
        arrangement.workers,
    )
    workers = Workers(batcher, runtime.infer, arrangement.runs, means.seconds, means.wake, name)
    return Model(name, settings.version, labels, runtime, arrangement, workers)


def check_distinct(models: Sequence[ModelSettings]) -> None:
    """Checks that no two models have one name and one version.

    :raises ModelUnusable: naming the two graphs.
    """
    seen: dict[tuple[str, str], ModelSettings] = {}
    for settings in models:
        key = settings.name or _name_of(settings), settings.version
        if key in seen:
            raise ModelUnusable(
                f"{seen[key].graph} and {settings.graph} are both model {key[0]!r} version "
                f"{key[1]}; give one another --name or --version"
            )
        seen[key] = settings


def _name_of(settings: ModelSettings) -> str:
    lawful = re.sub(r"[^A-Za-z0-9._-]+", "-", settings.graph.stem)[:128].lstrip("._-")
    return lawful or "model"
