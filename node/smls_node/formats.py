# SPDX-License-Identifier: MIT
"""The formats that models come in, how each is known by its files, and the module that runs it.

Imports none of their libraries. The laws:

- A folder is known by the names in it, a file by its own name.
- Of several files of one format that which is called ``model`` is meant, as in Triton's folders.
- What could be two models is neither, until ``format`` names one of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path, PurePath
from typing import Any

from attrs import evolve, frozen

from smls.errors import ModelUnusable
from smls_node.settings import ModelSettings


@frozen
class Format:
    """A format by the name that settings call it.

    ``module``, in ``smls_node.runtimes``, has ``load(settings, *, operator_threads, runs)``,
    which gives a ``Runtime`` after its first run; it imports ``library``, which the
    distribution's extra ``extra`` brings. A file of this format ends in one of ``suffixes``, a
    folder has one of ``markers`` in it. ``platform`` is the Open Inference Protocol's name for
    it, or one made as those are, ``<project>_<format>``. ``is_pooled`` says that its operator
    threads are the process's (see ``smls_node.pools``). ``preloaded`` names the
    module there whose ``preload()`` imports the library, where that takes seconds and a process
    may be forked after it.
    """

    name: str
    module: str
    library: str
    extra: str
    platform: str
    suffixes: tuple[str, ...] = ()
    markers: tuple[str, ...] = ()
    is_pooled: bool = False
    preloaded: str = ""

    def imported(self) -> Any:
        """The module.

        :raises ModelUnusable: where its library is not installed, naming the extra.
        """
        module = import_module(f"smls_node.runtimes.{self.module}")
        try:
            import_module(self.library)
        except ImportError as error:
            raise ModelUnusable(
                f"format {self.name} needs {self.library}, which cannot be imported ({error}); "
                f"install simple-ml-serving[{self.extra}]"
            ) from error
        return module


GRAPH = Format(
    "graph",
    "tensorflow",
    "tensorflow",
    "node",
    "tensorflow_graphdef",
    (".pb", ".graphdef"),
    preloaded="tensorflow",
)
"""A frozen GraphDef, as label_image takes it."""

SAVED_MODEL = Format(
    "savedmodel",
    "savedmodel",
    "tensorflow",
    "node",
    "tensorflow_savedmodel",
    markers=("saved_model.pb", "saved_model.pbtxt"),
    is_pooled=True,
    preloaded="tensorflow",
)

KERAS = Format(
    "keras",
    "keras",
    "tensorflow",
    "node",
    "tensorflow_keras",
    (".keras", ".h5"),
    is_pooled=True,
    preloaded="tensorflow",
)

ONNX = Format("onnx", "onnx", "onnxruntime", "onnx", "onnx_onnxv1", (".onnx",))

SKLEARN = Format(
    "sklearn",
    "sklearn",
    "skops",
    "sklearn",
    "sklearn_estimator",
    (".skops", ".joblib", ".pkl", ".pickle"),
    preloaded="sklearn",
)

TORCHSCRIPT = Format(
    "torchscript", "torchscript", "torch", "torch", "pytorch_torchscript", (".pt", ".torchscript")
)

PYTHON = Format("python", "python", "numpy", "node", "python")
"""A class of the user's own, which settings name."""

FORMATS = {
    each.name: each for each in (GRAPH, SAVED_MODEL, KERAS, ONNX, SKLEARN, TORCHSCRIPT, PYTHON)
}

PROOF, COMPILED, QUANTIZED = ".proof.json", ".openvino", ".i8"
"""Ends of the names of what a node itself writes beside a graph (``smls_node.acceleration``): the
model is the same with and without."""

_PARTS = frozenset({"saved_model.pb", "fingerprint.pb", "keras_metadata.pb"})
"""What looks like a graph and is a part of a SavedModel."""


@frozen
class Found:
    """A model among the names of a folder: ``name`` is its file or folder, empty for the folder
    itself."""

    format: Format
    name: str

    def holds(self, name: str) -> bool:
        """Whether the file of this name is a part of the model."""
        if self.format.markers and not self.name:
            return name in self.format.markers or name.startswith(("variables/", "assets"))
        # What is beside a file under its name is its own too: model.onnx.data holds weights.
        return name.startswith(self.name) and not name.endswith((PROOF, COMPILED, QUANTIZED))


def candidates(names: Iterable[str], format: str = "") -> list[Found]:
    """The models that the files of these names, relative to one folder, may be."""
    files = sorted(names)
    kinds = FORMATS.values() if not format else [FORMATS[format]] if format in FORMATS else []
    found = [each for kind in kinds for each in _of(kind, files)]
    return [each for each in found if PurePath(each.name).stem in ("", "model")] or found


def recognised(names: Iterable[str], place: Path, format: str = "") -> Found:
    """The only model that there is among the files of these names in the folder ``place``.

    :raises ModelUnusable: naming the folder, what was got and what was wanted.
    """
    files = sorted(names)
    if format:
        _check_name(place, format)
    found = candidates(files, format)
    if len(found) == 1:
        return found[0]
    if not found:
        shown = [name for name in files if "/" not in name] or sorted({_top(f) for f in files})
        got = ", ".join(shown[:8]) or "nothing"
        kinds = [FORMATS[format]] if format else FORMATS.values()
        known = ", ".join(end for each in kinds for end in (*each.markers[:1], *each.suffixes))
        raise ModelUnusable(f"{place}: got {got}, wanted a model: one of {known}")
    got = ", ".join(f"{each.name or each.format.markers[0]} ({each.format.name})" for each in found)
    raise ModelUnusable(
        f"{place}: got {got}, wanted one model; call one model.*, or name its format"
    )


def located(settings: ModelSettings) -> ModelSettings:
    """The settings with the format and the path of the model itself, which may lie in the folder
    that they name. Blocks.

    :raises ModelUnusable: where there is nothing, or nothing that is known.
    """
    path = settings.path
    if not path.exists():
        raise ModelUnusable(f"{path}: there is no such file")
    if settings.implementation or settings.format == PYTHON.name:
        return settings
    if settings.format and (settings.format not in FORMATS or not path.is_dir()):
        return settings
    if path.is_dir():
        found = recognised(_names(path), path, settings.format)
        return evolve(settings, path=path / found.name, format=found.format.name)
    found = recognised([path.name], path.parent, settings.format)
    return evolve(settings, path=path.parent / found.name, format=found.format.name)


def load(settings: ModelSettings, *, operator_threads: int, runs: int) -> Any:
    """The model in the library of its format, a ``Runtime``.

    :raises ModelUnusable: where there is no such format or no such library, or the model is
        broken.
    """
    module = format_of(settings).imported()
    return module.load(settings, operator_threads=operator_threads, runs=runs)


def format_of(settings: ModelSettings) -> Format:
    """The format that the settings name.

    :raises ModelUnusable: where there is none of that name, or it needs a class and none is named.
    """
    name = PYTHON.name if settings.implementation else settings.format
    if name == PYTHON.name and not settings.implementation:
        raise ModelUnusable(
            f"{settings.path}: implementation: got none, wanted module.Class, which python needs"
        )
    _check_name(settings.path, name)
    return FORMATS[name]


def _check_name(place: Path, name: str) -> None:
    if name not in FORMATS:
        raise ModelUnusable(f"{place}: format: got {name!r}, wanted one of {', '.join(FORMATS)}")


def _of(kind: Format, files: Sequence[str]) -> list[Found]:
    folders = {PurePath(name).parent for name in files if PurePath(name).name in kind.markers}
    # Triton names the folder by the format: model.savedmodel.
    found = [
        Found(kind, folder.name)
        for folder in sorted(folders)
        if folder == PurePath() or (len(folder.parts) == 1 and folder.suffix == f".{kind.name}")
    ]
    return found + [
        Found(kind, name)
        for name in files
        if PurePath(name).suffix in kind.suffixes and "/" not in name and name not in _PARTS
    ]


def _names(folder: Path) -> list[str]:
    """The files of the folder and of those in it."""
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    names = [each.name for each in listed if each.is_file()]
    for each in listed:
        if each.is_dir():
            names += [f"{each.name}/{inner}" for inner in os.listdir(each)]
    return names


def _top(name: str) -> str:
    return f"{PurePath(name).parts[0]}/"
