# SPDX-License-Identifier: MIT
"""The Open Inference Protocol's service, ``inference.GRPCInferenceService``, and MLServer's for the
repository."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from smls.errors import ModelNotFound, Unsupported
from smls.inference import WantedOutput
from smls_node.catalogue import Model
from smls_node.faces import v2
from smls_node.faces.grpc import contents
from smls_node.faces.grpc.calls import Call, Unary
from smls_node.faces.grpc.messages import message
from smls_node.serving import Ask, Inferred, ModelControl, Phase, Serving

SERVICE = "inference.GRPCInferenceService"
REPOSITORY = "inference.model_repository.ModelRepositoryService"


class OpenInference:
    """The services' calls; ``version`` is the program's."""

    def __init__(self, serving: Serving, version: str) -> None:
        self._serving = serving
        self._version = version
        self.repository_calls = {
            "RepositoryIndex": Unary(self._index),
            "RepositoryModelLoad": Unary(self._load, is_work=True),
            "RepositoryModelUnload": Unary(self._unload, is_work=True),
        }
        self.calls = {
            "ServerLive": Unary(self._live),
            "ServerReady": Unary(self._ready),
            "ModelReady": Unary(self._model_ready),
            "ServerMetadata": Unary(self._server),
            "ModelMetadata": Unary(self._model),
            "ModelInfer": Unary(self._infer, is_work=True, is_raw=True),
            **self.repository_calls,
        }

    async def _live(self, request: Any, call: Call) -> Any:
        return message("inference.ServerLiveResponse")(live=True)

    async def _ready(self, request: Any, call: Call) -> Any:
        ready = self._serving.phase is Phase.READY
        return message("inference.ServerReadyResponse")(ready=ready)

    async def _model_ready(self, request: Any, call: Call) -> Any:
        def is_there() -> bool:
            try:
                self._serving.find(_ask(request.name, request.version, call.deadline))
            except ModelNotFound:
                return False
            return True

        ready = self._serving.phase is Phase.READY and await call.ask(is_there)
        return message("inference.ModelReadyResponse")(ready=ready)

    async def _server(self, request: Any, call: Call) -> Any:
        return message("inference.ServerMetadataResponse")(**v2.server(self._version))

    async def _model(self, request: Any, call: Call) -> Any:
        def metadata() -> dict[str, Any]:
            model = self._serving.find(_ask(request.name, request.version, call.deadline))
            return v2.metadata(self._serving.catalogue, model)

        return message("inference.ModelMetadataResponse")(**await call.ask(metadata))

    async def _infer(self, data: bytes, call: Call) -> Any:
        rest, raw = contents.split(data)
        request = await call.parsed(contents.Request, rest)
        inputs = await call.offload(len(rest), contents.read, request, raw)
        wishes = v2.asked(_parameters(request))
        wanted = [WantedOutput(each.name, None, _parameters(each)) for each in request.outputs]
        of_inputs = {each.name: _parameters(each) for each in request.inputs if each.parameters}
        deadline = call.within(wishes.timeout_seconds)
        ask = _ask(request.model_name, request.model_version, deadline, priority=wishes.priority)

        def run(model: Model) -> Deferred[Inferred]:
            name, signature = model.signature(wishes.signature)
            v2.check_outputs(signature, wanted)
            parameters = v2.for_model(signature, wishes.rest, of_inputs)
            return self._serving.infer(inputs, ask, name, parameters)

        found: Inferred = await call.run(ask, run)
        begun = self._serving.seconds()
        outputs = v2.chosen(found.outputs, wanted)
        response = message("inference.ModelInferResponse")(
            model_name=found.model.name, model_version=found.model.version, id=request.id
        )
        is_raw = bool(raw or request.raw_input_contents)
        size = sum(array.nbytes for array in outputs.values())
        written = await call.offload(size, lambda: contents.write(response, outputs, raw=is_raw))
        call.report(found.times, found.load, encode=self._serving.seconds() - begun)
        return written

    async def _index(self, request: Any, call: Call) -> Any:
        models = await call.ask(v2.index, self._serving.catalogue, request.ready)
        return message("inference.RepositoryIndexResponse")(models=models)

    async def _load(self, request: Any, call: Call) -> Any:
        if request.parameters:
            raise Unsupported("parameters: a model is loaded as its folder says, and not otherwise")
        await call.ask(self._control().load, request.model_name)
        return message("inference.RepositoryModelLoadResponse")()

    async def _unload(self, request: Any, call: Call) -> Any:
        await call.ask(self._control().unload, request.model_name)
        return message("inference.RepositoryModelUnloadResponse")()

    def _control(self) -> ModelControl:
        if self._serving.control is None:
            raise Unsupported("this node loads and unloads no models on demand")
        return self._serving.control


def _ask(name: str, version: str, deadline: float, **more: Any) -> Ask:
    return Ask(deadline, name or None, version or None, **more)


def _parameters(told: Any) -> dict[str, Any]:
    """The parameters of a request or of an output, by name."""
    found = {}
    for name, each in told.parameters.items():
        kind = each.WhichOneof("parameter_choice")
        found[name] = getattr(each, kind) if kind else None
    return found
