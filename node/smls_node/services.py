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
from typing import Any

import attrs
import numpy as np

from smls.errors import BadRequest, ModelUnusable
from smls.folders import cache_folder
from smls.tensors import Tensors, TensorSpec
from smls_node import loading, repository
from smls_node.catalogue import Model
from smls_node.factory import OBJECTS
from smls_node.pools import Pools
from smls_node.pymodel.kinds import as_bytes, natural
from smls_node.repository import Seen, Source
from smls_node.serving import ClassifyWork
from smls_node.settings import ModelSettings
from smls_node.tasks import ImageTask

MAX_PIXELS = 50_000_000
"""What a node takes of an image where it is told nothing else."""

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

        - for the bytes of an image file, pairs of label and score, the best first; for a list of
          them a list of these
        - for texts or rows, what the one output gives for each: an array, or texts
        - for one text, what is given for it alone
        - for arrays by name, in a mapping or as keywords, arrays by name

        :raises BadRequest: where the model takes something else.
        """
        if isinstance(given, Mapping) or named:
            return self._infer({**(given or {}), **named}, signature)
        if isinstance(self._model.task, ImageTask) and self._model.labels:
            return self._labels(given)
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

    def _labels(self, given: Any) -> Any:
        uploads = [given] if isinstance(given, bytes) else given
        if not isinstance(uploads, list) or not all(isinstance(each, bytes) for each in uploads):
            raise BadRequest("got no bytes of an image file, nor a list of such")
        answers = []
        for upload in uploads:
            task = self._model.task
            assert isinstance(task, ImageTask)
            work = ClassifyWork(self._model, task, upload, TOP, MAX_PIXELS, exact=False)
            asked = work.prepare()
            outputs = self._model.runtime.infer(asked.tensors, asked.signature, {})
            answers.append([(each.label, each.score) for each in work.finish(outputs)])
        return answers[0] if isinstance(given, bytes) else answers


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


def _means() -> loading.Means:
    return loading.Means(
        cache_folder() / "findings",
        _POOLS,
        time.monotonic,
        lambda call, *given: call(*given),
        factory=OBJECTS,
        may_measure=False,
    )


_POOLS = Pools()
"""Empty until a graph is opened."""
