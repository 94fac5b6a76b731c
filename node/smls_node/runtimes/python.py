# SPDX-License-Identifier: MIT
"""A class of the user's own, in a file of their own, as a model.

It lives in a thread of its own. ``load``, ``predict`` and ``unload`` are called there, one after
the other, unless the operator tells several ``runs``: then async ones are interleaved, and sync
ones run in the workers' threads.
"""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from smls.errors import ModelUnusable
from smls.tensors import Tensors, TensorSpec
from smls_node import machine
from smls_node.modelfile import described
from smls_node.pymodel import InferenceRequest, MLModel, ModelSettings, decode_args
from smls_node.pymodel.arguments import Binding, binding_of
from smls_node.pymodel.modules import ROOT, Modules
from smls_node.pymodel.thread import ModelThread
from smls_node.runtimes import Runtime
from smls_node.settings import ModelSettings as Settings
from smls_node.signature import DEFAULT, Signature

UNLOAD_SECONDS = 10.0
"""A user's ``unload`` that takes longer is given up."""

_UNHINTED = Binding(())

log = logging.getLogger(__name__)


class PythonModel:
    """A loaded object of a user's class. Made by ``load``."""

    process = problem = ""
    example: Tensors = {}

    def __init__(
        self, model: Any, modules: Modules, thread: ModelThread, signature: Signature, runs: int
    ) -> None:
        self.signatures = {DEFAULT: signature}
        self._model = model
        self._modules = modules
        self._thread = thread
        self._runs = threading.BoundedSemaphore(runs)
        self._is_direct = runs > 1 and not inspect.iscoroutinefunction(model.predict)

    def infer(
        self, inputs: Tensors, signature: str = DEFAULT, parameters: Mapping[str, Any] = {}
    ) -> Tensors:
        """See ``Runtime``.

        :raises BadRequest: where the inputs are not what ``predict`` takes.
        :raises Exception: whatever ``predict`` raises.
        """
        request = InferenceRequest.of(inputs, parameters)
        with self._runs:
            if self._is_direct:
                response = self._model.predict(request)
            else:
                response = self._thread.call(self._model.predict, request)
        return _UNHINTED.encode(response, "").tensors()

    def unload(self) -> None:
        """Calls the user's ``unload`` and ends the thread. What fails is logged."""
        try:
            unload = getattr(self._model, "unload", None)
            if unload is not None:
                self._thread.call(unload, timeout_seconds=UNLOAD_SECONDS)
        except Exception:
            log.exception("%s: unload failed", type(self._model).__name__)
        if not self._thread.stop():
            log.error("%s: its thread still runs", type(self._model).__name__)
        self._modules.forget()
        self._model = None
        machine.give_back_memory()


def load(settings: Settings, *, operator_threads: int = 0, runs: int = 1) -> Runtime:
    """The object of the class that ``settings.implementation`` names, after its ``load``.

    :raises ModelUnusable: naming the class and what failed; its traceback is in the log.
    """
    logging.getLogger(ROOT).setLevel(logging.INFO)
    own = _own_settings(settings)
    beside = [settings.document.path.parent] if settings.document else []
    modules = Modules(list(dict.fromkeys([settings.path, *beside])))
    thread = ModelThread(f"{own.name}-python").start()
    where = f"{settings.path}: {settings.implementation}"

    def tried(doing: str, what: Callable[..., Any], *given: Any) -> Any:
        try:
            return thread.call(what, *given)
        except Exception as error:
            if not isinstance(error, ModelUnusable):
                log.exception("%s: %s failed", where, doing)
            thread.stop()
            modules.forget()
            said = error.message if isinstance(error, ModelUnusable) else _said(error)
            raise ModelUnusable(f"{where}: {doing} failed: {said}") from error

    kind = tried("import", _class, modules, settings.implementation)
    binding = tried("predict's type hints", _bind, kind)
    model = tried("__init__", _made, kind, own)
    ready = tried("load", getattr(model, "load", lambda: None))
    if ready is False:
        thread.stop()
        modules.forget()
        raise ModelUnusable(f"{where}: load gave False, which says that it is not ready")
    if isinstance(model, MLModel):
        model.ready = True
        own = model.settings
    batches = settings.limits.bound is not None and settings.limits.bound > 1
    return PythonModel(model, modules, thread, _signature(own, binding, batches), runs)


def _own_settings(settings: Settings) -> ModelSettings:
    """The settings as the model sees them."""
    document = settings.document
    told = described(document.text, document.path) if document else {}
    known = {key: value for key, value in told.items() if key in _KEYS}
    if not isinstance(known.get("versions", []), list):
        del known["versions"]
    own = ModelSettings(**known, _source=str(document.path) if document else None)
    own.name = settings.name or own.name
    own.implementation = settings.implementation
    own.parameters.version = own.parameters.version or settings.version
    if own.parameters.uri is None:
        own.parameters.uri = str(settings.path)
    return own


_KEYS = frozenset(
    parameter for parameter in inspect.signature(ModelSettings).parameters if parameter[0] != "_"
)


def _class(modules: Modules, implementation: str) -> Any:
    name, _, wanted = implementation.rpartition(".")
    if not modules.has(name.partition(".")[0]):
        raise ModelUnusable(f"there is no {name.partition('.')[0]}.py")
    module = modules.imported(name)
    kind = getattr(module, wanted, None)
    if not isinstance(kind, type):
        defined = (
            each
            for each, value in vars(module).items()
            if isinstance(value, type) and value.__module__ == module.__name__
        )
        raise ModelUnusable(f"there is no class {wanted}; it has {', '.join(defined) or 'none'}")
    if not callable(getattr(kind, "predict", None)):
        raise ModelUnusable(f"{wanted} has no method predict")
    return kind


def _bind(kind: Any) -> Binding | None:
    """What ``predict``'s hints say. Where they name values, it decodes them, told so or not."""
    made = getattr(kind.predict, "binding", None)
    if made is not None:
        return made()  # type: ignore[no-any-return]
    binding = binding_of(kind.predict)
    if binding is not None:
        kind.predict = decode_args(kind.predict)
    return binding


def _made(kind: Any, own: ModelSettings) -> Any:
    takes = [
        each
        for each in inspect.signature(kind).parameters.values()
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    return kind(own) if takes else kind()


def _signature(own: ModelSettings, binding: Binding | None, batches: bool) -> Signature:
    inputs = {spec.name: spec for spec in (binding.specs() if binding else ())}
    outputs = {spec.name: spec for spec in (binding.gives() if binding else ())}
    for specs, told in ((inputs, own.inputs), (outputs, own.outputs)):
        specs.update(
            (each.name, TensorSpec(each.name, each.datatype, tuple(each.shape))) for each in told
        )
    return Signature(tuple(inputs.values()), tuple(outputs.values()), batches, is_open=True)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
