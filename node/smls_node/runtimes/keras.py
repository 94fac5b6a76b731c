# SPDX-License-Identifier: MIT
"""Keras models (``.keras``, ``.h5``), exported as a SavedModel and run as one.

A process of its own exports: Keras' eager TensorFlow would fix how many operator threads the
node's process has, and what Keras leaves behind ends with it. The exported model answers without
Python's layers in the way.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attrs import evolve

from smls.errors import ModelUnusable
from smls_node import machine
from smls_node.runtimes import savedmodel
from smls_node.settings import ModelSettings

EXPORT_SECONDS = 600.0
"""Importing takes seconds, exporting a large model a minute."""


def load(
    settings: ModelSettings, *, operator_threads: int = 0, runs: int = 1
) -> savedmodel.SavedModel:
    """The model as ``savedmodel.load`` gives it.

    :raises ModelUnusable: where Keras cannot read the file or export the model, or as
        ``savedmodel.load``.
    """
    with _exported(settings) as exported:
        return savedmodel.load(exported, operator_threads=operator_threads, runs=runs)


def freeze(settings: ModelSettings, signature: str = "") -> Any:
    """As ``savedmodel.freeze``.

    :raises ModelUnusable: as ``load``, or as ``savedmodel.freeze``.
    """
    with _exported(settings) as exported:
        return savedmodel.freeze(exported, signature)


@contextmanager
def _exported(settings: ModelSettings) -> Iterator[ModelSettings]:
    """The settings of the SavedModel that it is exported as. What is wrong with that is told of
    the file."""
    with TemporaryDirectory(prefix="smls-keras-") as folder:
        _export(settings.path, Path(folder))
        try:
            yield evolve(settings, path=Path(folder))
        except ModelUnusable as error:
            raise ModelUnusable(error.message.replace(folder, str(settings.path))) from error


def _export(path: Path, folder: Path) -> None:
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "-1",
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    try:
        child = subprocess.run(
            [sys.executable, "-m", "smls_node.runtimes.keras", str(path), str(folder)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=EXPORT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise ModelUnusable(
            f"{path}: Keras has not exported it in {EXPORT_SECONDS:.0f} s"
        ) from error
    if child.returncode != 0:
        lines = child.stderr.strip().splitlines()
        why = lines[-1] if lines else f"its process ended with status {child.returncode}"
        raise ModelUnusable(f"{path} is no whole Keras model: {why}")


def _child(path: str, folder: str) -> None:
    """Exports the model at ``path`` into ``folder``; what it fails of is the last line it says."""
    machine.end_with_parent()
    import keras

    try:
        # A Lambda layer holds code: safe_mode refuses it.
        keras.models.load_model(path, compile=False, safe_mode=True).export(folder, verbose=False)
    except Exception as error:
        sys.exit(" ".join(str(error).split()) or type(error).__name__)


if __name__ == "__main__":
    _child(*sys.argv[1:])
