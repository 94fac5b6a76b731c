# SPDX-License-Identifier: MIT
"""Models in one's own process, with no server.

::

    from smls_node import services

    digits = services.get("digits", path="models/digits")
    digits.run(Path("three.jpg").read_bytes())      # [("3", 0.99), …]

The same name and configuration give the same object, which is loaded once.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from os import PathLike
from pathlib import Path
from types import UnionType
from typing import Any

import attrs
import numpy as np

from smls.errors import BadRequest, ModelUnusable
from smls.folders import cache_folder
from smls.tensors import Tensors, TensorSpec
from smls_node import loading, repository
from smls_node.catalogue import Model
from smls_node.factory import OBJECTS
from smls_node.means import Means
from smls_node.pools import Pools
from smls_node.pymodel.kinds import as_bytes, is_frame, natural
from smls_node.repository import Seen, Source
from smls_node.settings import ModelSettings
from smls_node.signature import Inputs
from smls_node.tables import TableTask
from smls_node.tasks import ImageTask
from smls_node.texts import TextTask
from smls_node.works import Classifier

TOP = 5
"""As many labels as a node gives where it is told nothing else."""

OPTIONS = {each.name for each in attrs.fields(ModelSettings)} - {"path", "name", "document"}
"""What may be told of a model besides."""


def get(name: str, *, path: str | PathLike[str], **options: Any) -> Service:
    """The model at ``path``: its file, or a folder as ``smls-node DIR`` takes it.

    :param options: as ``ModelSettings`` has them, such as ``format``, ``version`` or ``labels``;
        of a folder with several versions the latest is taken where none is told.

    May be called in any thread; who asks while it is loaded waits for it.

    :raises ModelUnusable: where the model is missing or broken, or an option is not known.
    """
    unknown = sorted(options.keys() - OPTIONS)
    if unknown:
        raise ModelUnusable(
            f"{name}: got the option {unknown[0]!r}, wanted one of {', '.join(sorted(OPTIONS))}"
        )
    settings = _settings(name, Path(path).absolute(), options)
    if not settings.path.exists():
        raise ModelUnusable(f"{settings.path}: there is no such file")
    means = _means()
    key = "service", settings.labels, loading.key_of(settings, means)
    return OBJECTS.get(key, lambda: Service(loading.load(settings, means), key))


class Service:
    """A loaded model. Its calls may be made in any thread, and block. Got from ``get``."""

    def __init__(self, model: Model, key: Hashable) -> None:
        self.name = model.name
        self.version = model.version
        self._model = model
        self._key = key

    def run(self, given: Any = None, /, signature: str | None = None, **named: Any) -> Any:
        """What the model naturally gives.

        - for an image file, its bytes or its path, pairs of label and score, the best first; for
          a list of them a list of these
        - for texts their vectors, an array with a row each; for one text its own
        - for features by name, in a mapping or as keywords, what is predicted of them; for a list
          of such mappings, or a data frame, an array or a list of what is predicted of each
        - for an array or a list of what a model of one input takes, what its one output gives
        - for arrays by name, in a mapping or as keywords, arrays by name

        :raises BadRequest: where the model takes something else.
        """
        if signature is None:
            task, value = self._model.task, _plain(named if given is None and named else given)
            if isinstance(task, TextTask) and _are(value, str):
                return self._vectors(task, value)
            if isinstance(task, TableTask) and _are_rows(value):
                return self._predictions(task, value)
            if isinstance(task, ImageTask) and not isinstance(given, Mapping | np.ndarray | None):
                return self._labels(task, given)
        if isinstance(given, Mapping) or named:
            return self._infer({**(given or {}), **named}, signature)
        _, wanted = self._model.signature(signature)
        if len(wanted.inputs) != 1:
            names = ", ".join(spec.name for spec in wanted.inputs) or "some"
            raise BadRequest(f"inputs: got one without a name, wanted by name: {names}")
        is_one = isinstance(given, (str, bytes))
        (source,) = wanted.inputs
        outputs = self._infer({source.name: [given] if is_one else given}, signature)
        if len(outputs) != 1:
            return outputs
        (answer,) = map(natural, outputs.values())
        return answer[0] if is_one and wanted.batches else answer

    def give_back(self) -> None:
        """Unloads the model, where all who got it have given it back."""
        OBJECTS.give_back(self._key)

    def unload(self) -> None:
        self._model.give_back()

    def _infer(self, given: Mapping[str, Any], signature: str | None) -> Tensors:
        name, wanted = self._model.signature(signature)
        specs = {spec.name: spec for spec in wanted.inputs}
        tensors = {
            key: _array(key, value, None if wanted.is_open else specs.get(key))
            for key, value in given.items()
        }
        wanted.rows(tensors)
        return self._model.runtime.infer(tensors, name, {})

    def _vectors(self, task: TextTask, given: str | list[str]) -> Any:
        vectors = task.vectors(self._ran(task.inputs(_several(given))))
        return vectors if isinstance(given, list) else vectors[0]

    def _predictions(self, task: TableTask, given: Any) -> Any:
        predictions = natural(task.predictions(self._ran(task.inputs(_several(given)))))
        return predictions if isinstance(given, list) else predictions[0]

    def _ran(self, inputs: Inputs) -> Tensors:
        return self._model.runtime.infer(inputs.tensors, inputs.signature, inputs.parameters)

    def _labels(self, task: ImageTask, given: Any) -> Any:
        classifier = Classifier(task, self._model.labels)
        answers = [
            list(classifier.best(self._ran(classifier.inputs(upload)), TOP))
            for upload in map(_upload, _several(given))
        ]
        return answers if isinstance(given, list) else answers[0]


def _plain(given: Any) -> Any:
    """Rows of a data frame, and numbers of numpy's, as Python has them."""
    if is_frame(type(given)):
        given = given.to_dict("records")
    if isinstance(given, Mapping):
        return {
            name: each.item() if isinstance(each, np.generic) else each
            for name, each in given.items()
        }
    if isinstance(given, list) and _are(given, Mapping):
        return [_plain(each) for each in given]
    return given


def _several(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [given]


def _are(given: Any, kind: type | UnionType) -> bool:
    """Whether it is one of the kind, or a list of such."""
    return isinstance(given, kind) or (
        isinstance(given, list) and all(isinstance(each, kind) for each in given)
    )


def _are_rows(given: Any) -> bool:
    """Whether it is features by name, or a list of such: arrays by name are none."""
    return _are(given, Mapping) and all(
        _are(value, bool | int | float | str) and not isinstance(value, list)
        for row in _several(given)
        for value in row.values()
    )


def _upload(given: Any) -> bytes:
    if isinstance(given, bytes):
        return given
    if not isinstance(given, str | PathLike):
        raise BadRequest(
            f"got {type(given).__name__}, wanted the bytes or the path of an image file, or a list "
            "of such"
        )
    try:
        return Path(given).read_bytes()
    except (OSError, ValueError) as error:
        raise BadRequest(f"{given}: this image cannot be read: {error}") from error


def _array(name: str, value: Any, spec: TensorSpec | None) -> Any:
    try:
        array = np.asarray(value)
        if array.dtype.kind in "OSU":
            return as_bytes(array)
        return array if spec is None else array.astype(spec.dtype, casting="same_kind", copy=False)
    except (TypeError, ValueError) as error:
        raise BadRequest(f"input {name}: {error}") from error


def _settings(name: str, path: Path, options: Mapping[str, Any]) -> ModelSettings:
    if path.is_file() or options.keys() & {"format", "implementation"}:
        return ModelSettings(path, name=name, **options)
    source = Source(path, is_model=True)
    repository.check([source])
    seen = repository.look([source])
    found = repository.wanted(seen.parts, [source], ModelSettings(Path()))
    told = dict(options)
    version = told.pop("version", None)
    fitting = [each for each in found.editions if version in (None, each.version)]
    if not fitting:
        there = ", ".join(each.version for each in found.editions) or "none"
        raise ModelUnusable(
            f"{path}: version: got {version!r}, wanted one of {there}{_why(seen, found.notes)}"
        )
    if fitting[-1].problem:
        raise ModelUnusable(fitting[-1].problem)
    return attrs.evolve(fitting[-1].settings, name=name, **told)


def _why(seen: Seen, notes: tuple[str, ...]) -> str:
    said = "; ".join([*notes, *seen.unreadable.values()])
    return f" ({said})" if said else ""


def _means() -> Means:
    return Means(
        cache_folder() / "findings",
        _POOLS,
        time.monotonic,
        factory=OBJECTS,
        may_measure=False,
    )


_POOLS = Pools()
"""Empty until a graph is opened."""
