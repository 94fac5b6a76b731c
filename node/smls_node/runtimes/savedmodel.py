# SPDX-License-Identifier: MIT
"""TensorFlow's SavedModels, of TensorFlow 1 and 2, in one long-lived session a model.

The session reads both kinds, fills their tables, restores their variables, and answers a small
model in 6 us where its concrete functions take 250 (see docs/decisions.md). Where its signatures
only read those variables, another session has their values in place of them (``freezing``).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen

from smls.errors import BadRequest, ModelUnusable
from smls.tensors import Tensors, TensorSpec, datatype_of
from smls_node.runtimes import freezing
from smls_node.runtimes.opening import Draft, Output, opened
from smls_node.runtimes.session import SessionCall
from smls_node.runtimes.tensorflow import (
    close,
    configuration,
    folded,
    imported,
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
    """A signature's inputs in the order in which ``run`` takes them, and at which place of what it
    gives each output is."""

    inputs: tuple[str, ...]
    outputs: Mapping[str, int]
    run: SessionCall


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
            found = call.run(*[inputs[name] for name in call.inputs])
        except tf.errors.InvalidArgumentError as error:
            raise BadRequest(f"the model refuses the inputs: {reason(error)}") from error
        return {name: np.asarray(found[place]) for name, place in call.outputs.items()}

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
    path = settings.path
    config = configuration(operator_threads, runs, settings.device)
    session, signatures = _restored(settings, config)
    try:
        drafts: dict[str, Draft] = {}
        calls: dict[str, _Call] = {}
        for name, definition in signatures:
            try:
                drafts[name] = _draft(definition)
                calls[name] = _call(session, definition)
            except ValueError as error:
                drafts.pop(name, None)
                log.warning("%s: signature %s is not served: %s", path, name, error)
        if not drafts:
            raise ModelUnusable(f"{path} has no signature that can be served")
        served = {name: definition for name, definition in signatures if name in drafts}
        faster = _frozen(session, served.values(), settings, config)
        if faster is not None:
            close(session)
            session = faster
            calls = {name: _call(session, definition) for name, definition in served.items()}
        model = SavedModel(session, calls)
        model.signatures, model.example = opened(
            settings, drafts, lambda name, row: model.infer(row, name), reason
        )
        if faster is not None and model.example:
            first = calls[next(iter(drafts))]
            first.run.spread_if_quicker(*[model.example[name] for name in first.inputs])
    except BaseException:
        close(session)
        raise
    return model


def freeze(settings: ModelSettings, signature: str = "") -> Any:
    """The definition of what a signature of images, the first one where none is named, makes of
    them, with constants in place of variables.

    :raises ModelUnusable: where it is no whole SavedModel, has no such signature, or that takes or
        gives something else or has a state.
    """
    preload()
    import tensorflow as tf

    path = settings.path
    session, signatures = _restored(settings, configuration(0, 1, settings.device))
    try:
        found = dict(signatures)
        name = signature or next(iter(found), "")
        if name not in found:
            raise ModelUnusable(
                f"{path}: got signature {name!r}, wanted one of {', '.join(found) or 'some'}"
            )
        draft = _draft(found[name])
        if not _is_classifier(draft):
            taken = ", ".join(f"{spec.name} {spec}" for spec in draft.inputs)
            raise ModelUnusable(
                f"{path}: signature {name} takes {taken or 'nothing'} and gives "
                f"{len(draft.outputs)} tensors; a frozen graph that is served takes "
                "FP32[?, H, W, C] and gives one of scores; serve the model as it is"
            )
        (source,), (target,) = (
            [session.graph.get_tensor_by_name(info.name).op for info in tensors.values()]
            for tensors in (found[name].inputs, found[name].outputs)
        )
        if not source.type.startswith("Placeholder") or len(target.outputs) != 1:
            raise ModelUnusable(
                f"{path}: signature {name} is fed within its graph, or gives one of several "
                "outputs of an operator; serve the model as it is"
            )
        sources, targets = [source.name], [target.name]
        if not freezing.can_freeze(session.graph.as_graph_def(), targets):
            raise ModelUnusable(
                f"{path}: signature {name} depends on more than images and variables, as on a "
                "variable that it writes, a table or chance, or has loops or branches; serve the "
                "model as it is"
            )
        return freezing.frozen(session, sources, targets)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise ModelUnusable(f"{path} cannot be frozen: {reason(error)}") from error
    finally:
        close(session)


def _is_classifier(draft: Draft) -> bool:
    """Whether it takes images and gives scores, as far as is told."""
    if len(draft.inputs) != 1 or len(draft.outputs) != 1:
        return False
    (taken,), (given,) = draft.inputs, draft.outputs
    is_image = taken.datatype == "FP32" and len(taken.shape) == 4 and taken.shape[3] in (-1, 1, 3)
    return is_image and given.datatype == "FP32" and len(given.shape or ()) <= 2


def _restored(settings: ModelSettings, config: Any) -> tuple[Any, list[tuple[str, Any]]]:
    """A session with the tables and variables, and the definitions of the signatures by name.

    :raises ModelUnusable: where the folder is no whole SavedModel.
    """
    import tensorflow as tf
    from tensorflow.python.util import deprecation

    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph, config=config)
    try:
        # What replaces this loader makes concrete functions.
        with graph.as_default(), placed(settings.device), deprecation.silence():
            loader = tf.compat.v1.saved_model.loader
            meta = loader.load(session, _tags(settings.path), str(settings.path))
    except Exception as error:
        close(session)
        raise ModelUnusable(f"{settings.path} is no whole SavedModel: {reason(error)}") from error
    return session, _ordered(meta.signature_def)


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
    places = {name: fetched.index(tensor) for name, tensor in outputs.items()}
    return _Call(tuple(inputs), places, SessionCall(session, list(inputs.values()), fetched))


def _frozen(session: Any, signatures: Collection[Any], settings: ModelSettings, config: Any) -> Any:
    """Another session for the same signatures, with constants in place of variables; ``None``
    where something else than their values counts, or there are too many."""
    import tensorflow as tf

    sources, targets = (
        {info.name.partition(":")[0] for each in signatures for info in tensors(each).values()}
        for tensors in (attrgetter("inputs"), attrgetter("outputs"))
    )
    size = sum(each.stat().st_size for each in settings.path.glob("variables/*.data-*"))
    if size > freezing.MOST_BYTES:
        return None
    if not freezing.can_freeze(session.graph.as_graph_def(), targets):
        return None
    try:
        graph = imported(freezing.frozen(session, sources, targets), settings.device)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        log.warning("%s keeps its variables: %s", settings.path, reason(error))
        return None
    graph = folded(graph, settings.device, config, sources | targets)
    return tf.compat.v1.Session(graph=graph, config=config)
