# SPDX-License-Identifier: MIT
"""From the settings of a model to the model itself, loaded and warmed up. Blocks: use a thread."""

from __future__ import annotations

import re
from collections.abc import Sequence

from smls.errors import ModelUnusable
from smls_node import embedded
from smls_node.catalogue import Model
from smls_node.labels import read_labels
from smls_node.runtimes import tensorflow
from smls_node.settings import ModelSettings

EMBEDDED = ModelSettings(embedded.GRAPH, embedded.LABELS, name="digits")
"""What is served where no model is named."""


def load(settings: ModelSettings) -> Model:
    """The model, after its first run.

    :raises ModelUnusable: where its files are missing, broken, or do not fit together.
    """
    assert settings.labels is not None
    labels = read_labels(settings.labels)
    runtime = tensorflow.load(
        tensorflow.GraphFiles(
            settings.graph,
            settings.input_layer,
            settings.output_layer,
            settings.mean,
            settings.std,
            settings.height,
            settings.width,
        )
    )
    classes = runtime.signature.classes
    if classes != len(labels):
        runtime.unload()
        raise ModelUnusable(
            f"{settings.labels} has {len(labels)} labels, but {settings.graph} gives "
            f"{classes} scores an image"
        )
    return Model(settings.name or _name_of(settings), settings.version, labels, runtime)


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
