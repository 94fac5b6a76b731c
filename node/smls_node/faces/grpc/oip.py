# SPDX-License-Identifier: MIT
"""The Open Inference Protocol's service, ``inference.GRPCInferenceService``."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred

from smls.errors import BadRequest, ModelNotFound
from smls.tensors import Tensors
from smls_node.catalogue import Model
from smls_node.faces.grpc import contents
from smls_node.faces.grpc.calls import Call, Unary
from smls_node.faces.grpc.messages import message
from smls_node.faces.grpc.statuses import Unsupported
from smls_node.serving import DEFAULT_PRIORITY, Ask, Inferred, Phase, Serving
from smls_node.versions import State

SERVICE = "inference.GRPCInferenceService"

LOWEST_PRIORITY = 9

_STATES = {State.START: "LOADING", State.LOADING: "LOADING", State.UNLOADING: "UNLOADING"}
"""What Triton calls the states of versions that do not answer, UNAVAILABLE where not here."""

_FOREIGN = ("classification", "shared_memory_region")
"""Parameters of outputs without which an answer would not be what was asked for."""


class Repository(Protocol):
    """Loads and unloads models on demand."""

    def load(self, model: str) -> Deferred[Any]: ...

    def unload(self, model: str) -> Deferred[Any]: ...


class OpenInference:
    """The service's calls; ``repository`` is ``None`` where models do not come and go."""

    def __init__(self, serving: Serving, version: str, repository: Repository | None) -> None:
        self._serving = serving
        self._version = version
        self._repository = repository
        self.calls = {
            "ServerLive": Unary(self._live),
            "ServerReady": Unary(self._ready),
            "ModelReady": Unary(self._model_ready),
            "ServerMetadata": Unary(self._server),
            "ModelMetadata": Unary(self._model),
            "ModelInfer": Unary(self._infer, is_work=True, is_raw=True),
            "RepositoryIndex": Unary(self._index),
            "RepositoryModelLoad": Unary(self._load, is_work=True),
            "RepositoryModelUnload": Unary(self._unload, is_work=True),
        }

    async def _live(self, request: Any, call: Call) -> Any:
        return message("inference.ServerLiveResponse")(live=True)

    async def _ready(self, request: Any, call: Call) -> Any:
        ready = self._serving.phase is Phase.READY
        return message("inference.ServerReadyResponse")(ready=ready)

    async def _model_ready(self, request: Any, call: Call) -> Any:
        def is_ready() -> bool:
            try:
                self._serving.find(_ask(request.name, request.version, call))
            except ModelNotFound:
                return False
            return self._serving.refusal() is None

        ready = self._serving.phase is Phase.READY and await call.ask(is_ready)
        return message("inference.ModelReadyResponse")(ready=ready)

    async def _server(self, request: Any, call: Call) -> Any:
        extensions = ["model_repository"] if self._repository else []
        return message("inference.ServerMetadataResponse")(
            name="smls", version=self._version, extensions=extensions
        )

    async def _model(self, request: Any, call: Call) -> Any:
        def found() -> tuple[Model, list[str]]:
            model = self._serving.find(_ask(request.name, request.version, call))
            models = self._serving.catalogue.models
            return model, [each.version for each in models if each.name == model.name]

        model, versions = await call.ask(found)
        _, signature = model.signature()
        response = message("inference.ModelMetadataResponse")(name=model.name, versions=versions)
        for tensors, specs in (
            (response.inputs, signature.inputs),
            (response.outputs, signature.outputs),
        ):
            for spec in specs:
                tensors.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
        return response

    async def _infer(self, data: bytes, call: Call) -> Any:
        rest, raw = contents.split(data)
        request = await call.parsed(contents.Request, rest)
        inputs = await call.offload(len(rest), contents.read, request, raw)
        parameters = {name: _value(each) for name, each in request.parameters.items()}
        ask = _ask(
            request.model_name,
            request.model_version,
            call,
            _number(parameters, "priority"),
            _number(parameters, "timeout"),
        )
        for output in request.outputs:
            for name in _FOREIGN:
                if name in output.parameters:
                    raise Unsupported(f"output {output.name}: parameter {name} is not served here")
        found: Inferred = await call.ask(self._serving.infer, inputs, ask, None, parameters)
        begun = self._serving.seconds()
        outputs = wanted("outputs", found.outputs, [each.name for each in request.outputs])
        response = message("inference.ModelInferResponse")(
            model_name=found.model.name, model_version=found.model.version, id=request.id
        )
        is_raw = bool(raw or request.raw_input_contents)
        size = sum(array.nbytes for array in outputs.values())
        await call.offload(size, lambda: contents.write(response, outputs, raw=is_raw))
        call.report(found.times, found.load, encode=self._serving.seconds() - begun)
        return response

    async def _index(self, request: Any, call: Call) -> Any:
        def index() -> list[tuple[str, str, str, str]]:
            catalogue = self._serving.catalogue
            found = [(each.name, each.version, "READY", "") for each in catalogue.models]
            known = {(name, version) for name, version, _, _ in found}
            if not request.ready:
                found += [
                    (each.name, each.version, _STATES.get(each.state, "UNAVAILABLE"), each.why)
                    for each in catalogue.absent
                    if (each.name, each.version) not in known
                ]
            return found

        response = message("inference.RepositoryIndexResponse")()
        for name, version, state, reason in await call.ask(index):
            response.models.add(name=name, version=version, state=state, reason=reason)
        return response

    async def _load(self, request: Any, call: Call) -> Any:
        await call.ask(self._models().load, request.model_name)
        return message("inference.RepositoryModelLoadResponse")()

    async def _unload(self, request: Any, call: Call) -> Any:
        await call.ask(self._models().unload, request.model_name)
        return message("inference.RepositoryModelUnloadResponse")()

    def _models(self) -> Repository:
        if self._repository is None:
            raise Unsupported("this node loads and unloads no models on demand")
        return self._repository


def wanted(where: str, outputs: Tensors, names: list[str]) -> Tensors:
    """Those of the outputs that are named, in that order; all of them where none is.

    :raises BadRequest: where there is none of a name, or one is named twice.
    """
    for name in names:
        if name not in outputs or names.count(name) > 1:
            got = f"{name!r} twice" if name in outputs else repr(name)
            raise BadRequest(f"{where}: got {got}, wanted some of {', '.join(outputs)}")
    return {name: outputs[name] for name in names} if names else outputs


def _ask(name: str, version: str, call: Call, priority: int = 0, timeout: int = 0) -> Ask:
    """What a call wants; its deadline is the earlier one of gRPC's and of ``timeout``, in
    microseconds. Priorities run from 1, which goes first; 0 is the default."""
    deadline = call.deadline
    if timeout:
        deadline = min(deadline, call.begun + timeout / 1e6)
    return Ask(
        deadline,
        name or None,
        version or None,
        priority=min(priority, LOWEST_PRIORITY) or DEFAULT_PRIORITY,
    )


def _value(parameter: Any) -> Any:
    kind = parameter.WhichOneof("parameter_choice")
    return getattr(parameter, kind) if kind else None


def _number(parameters: dict[str, Any], name: str) -> int:
    """Takes the parameter ``name`` out of them; 0 where it is not there."""
    value = parameters.pop(name, 0)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise BadRequest(f"parameter {name}: got {str(value)[:80]!r}, wanted a number from 0")
    return value
