# SPDX-License-Identifier: MIT
"""TensorFlow's SavedModels, of TensorFlow 1 and 2, in one long-lived session a model.

The session reads both kinds, fills their tables, restores their variables, and answers a small
model in 6 us where its concrete functions take 250 (see docs/decisions.md).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen

from smls.errors import BadRequest, ModelUnusable
from smls.tensors import Tensors, TensorSpec, datatype_of
from smls_node.runtimes.opening import Draft, Output, opened
from smls_node.runtimes.session import SessionCall
from smls_node.runtimes.tensorflow import (
    close,
    configuration,
    placed,
    preload,
    reason,
)
from smls_node.settings import ModelSettings
from smls_node.signature import DEFAULT, Signature

SERVE = "serve"
"""The tag of the graph that is meant to be served."""

METHODS = {
    "tensorflow/serving/classify": "classify",
    "tensorflow/serving/regress": "regress",
}
"""What ``SignatureDef.method_name`` says; all else is predicted with."""

INTERNAL = ("__saved_model_init_op", "__saved_model_train_op")
"""Signatures that TensorFlow keeps for itself."""

log = logging.getLogger(__name__)


@frozen
class _Call:
    """A signature's tensors in the order in which ``run`` takes and gives them."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    run: Callable[..., list[Any]]


class SavedModel:
    """A SavedModel in its session. Made by ``load``, in a thread."""

    process = problem = ""

    def __init__(self, session: Any, calls: Mapping[str, _Call]) -> None:
        self._session = session
        self._calls = calls
        self.signatures: Mapping[str, Signature] = {}
        self.example: Tensors = {}

    def infer(
        self, inputs: Tensors, signature: str = DEFAULT, parameters: Mapping[str, Any] = {}
    ) -> Tensors:
        """See ``Runtime``.

        :raises BadRequest: where an operator of the model refuses the values.
        """
        import tensorflow as tf

        call = self._calls[signature]
        try:
            outputs = call.run(*[inputs[name] for name in call.inputs])
        except tf.errors.InvalidArgumentError as error:
            raise BadRequest(f"the model refuses the inputs: {reason(error)}") from error
        return dict(zip(call.outputs, map(np.asarray, outputs), strict=True))

    def unload(self) -> None:
        """See ``tensorflow.close``."""
        close(self._session)


def load(settings: ModelSettings, *, operator_threads: int = 0, runs: int = 1) -> SavedModel:
    """The model in a session of its own, with its tables and variables, after a first run.

    The threads are as for ``tensorflow.load``.

    :raises ModelUnusable: where the folder is no SavedModel that this TensorFlow knows, is not
        whole, or has no signature of plain tensors, or the first run fails.
    """
    preload()
    import tensorflow as tf
    from tensorflow.python.util import deprecation

    path = settings.path
    config = configuration(operator_threads, runs, settings.device)
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph, config=config)
    try:
        try:
            # What replaces this loader makes concrete functions.
            with graph.as_default(), placed(settings.device), deprecation.silence():
                loader = tf.compat.v1.saved_model.loader
                meta = loader.load(session, _tags(path), str(path))
        except Exception as error:
            raise ModelUnusable(f"{path} is no whole SavedModel: {reason(error)}") from error
        drafts: dict[str, Draft] = {}
        calls: dict[str, _Call] = {}
        for name, definition in _ordered(meta.signature_def):
            try:
                drafts[name] = _draft(definition)
                calls[name] = _call(session, definition)
            except ValueError as error:
                drafts.pop(name, None)
                log.warning("%s: signature %s is not served: %s", path, name, error)
        if not drafts:
            raise ModelUnusable(f"{path} has no signature that can be served")
        model = SavedModel(session, calls)
        model.signatures, model.example = opened(
            settings, drafts, lambda name, row: model.infer(row, name), reason
        )
    except BaseException:
        close(session)
        raise
    return model


def _tags(path: Path) -> list[str]:
    """The tags of the graph that is meant to be served, or else of that with the fewest: modules
    of TensorFlow Hub have one with none."""
    from tensorflow.python.saved_model.loader_impl import parse_saved_model

    graphs = parse_saved_model(str(path)).meta_graphs
    tags = sorted((list(graph.meta_info_def.tags) for graph in graphs), key=len)
    return next((each for each in tags if SERVE in each), tags[0])


def _ordered(signatures: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The signatures, the one that is meant by default first."""
    names = sorted((name for name in signatures if name not in INTERNAL), key=_place)
    return [(name, signatures[name]) for name in names]


def _place(name: str) -> tuple[bool, bool, str]:
    # "default" is what modules of TensorFlow Hub call it.
    return name != DEFAULT, name != "default", name


def _draft(definition: Any) -> Draft:
    inputs = []
    for name, info in sorted(definition.inputs.items()):
        datatype, shape = _described(name, info)
        inputs.append(TensorSpec(name, datatype, (-1,) if shape is None else shape))
    outputs = tuple(
        Output(name, *_described(name, info)) for name, info in sorted(definition.outputs.items())
    )
    return Draft(tuple(inputs), outputs, METHODS.get(definition.method_name, "predict"))


def _described(name: str, info: Any) -> tuple[str, tuple[int, ...] | None]:
    """The datatype and the shape.

    :raises ValueError: where it is none that travels.
    """
    import tensorflow as tf

    if info.WhichOneof("encoding") != "name":
        raise ValueError(f"{name} is no plain tensor")
    shape = None
    if not info.tensor_shape.unknown_rank:
        shape = tuple(side.size for side in info.tensor_shape.dim)
    try:
        return datatype_of(np.dtype(tf.as_dtype(info.dtype).as_numpy_dtype)), shape
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _call(session: Any, definition: Any) -> _Call:
    inputs = {name: info.name for name, info in sorted(definition.inputs.items())}
    outputs = {name: info.name for name, info in sorted(definition.outputs.items())}
    # A tensor may be fetched once, and two outputs may be one.
    fetched = list(dict.fromkeys(outputs.values()))
    run = SessionCall(session, list(inputs.values()), fetched)
    if len(fetched) < len(outputs):
        places = [fetched.index(tensor) for tensor in outputs.values()]
        return _Call(tuple(inputs), tuple(outputs), lambda *given: _picked(run(*given), places))
    return _Call(tuple(inputs), tuple(outputs), run)


def _picked(values: list[Any], places: list[int]) -> list[Any]:
    return [values[place] for place in places]
