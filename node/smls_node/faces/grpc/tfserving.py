# SPDX-License-Identifier: MIT
"""TensorFlow Serving's services, ``PredictionService`` and ``ModelService``."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from smls.errors import BadRequest, ModelNotFound, Unsupported
from smls.inference import WantedOutput
from smls.tensors import Tensors
from smls_node.catalogue import Model
from smls_node.faces import tfexamples, v2
from smls_node.faces.grpc import tensorproto
from smls_node.faces.grpc.calls import Call, Unary
from smls_node.faces.grpc.examples import examples_of
from smls_node.faces.grpc.messages import message
from smls_node.faces.tfmodels import VersionStatus, statuses
from smls_node.faces.tfshapes import fitted, narrowed
from smls_node.serving import Ask, Inferred, Serving

PREDICTION = "tensorflow.serving.PredictionService"
MODELS = "tensorflow.serving.ModelService"

METADATA = "signature_def"
"""The one field of metadata that there is."""

_Spec = message("tensorflow.serving.ModelSpec")


class TensorFlowServing:
    """The calls of both services; ``max_bytes`` bounds what a tensor's values are spread out to."""

    def __init__(self, serving: Serving, max_bytes: int) -> None:
        self._serving = serving
        self._max_bytes = max_bytes
        self.prediction_calls = {
            "Predict": Unary(self._predict, is_work=True),
            "Classify": Unary(self._classify, is_work=True),
            "Regress": Unary(self._regress, is_work=True),
            "MultiInference": Unary(self._multi),
            "GetModelMetadata": Unary(self._metadata),
        }
        self.model_calls = {
            "GetModelStatus": Unary(self._status),
            "HandleReloadConfigRequest": Unary(self._reload),
        }

    async def _predict(self, request: Any, call: Call) -> Any:
        spec = request.model_spec
        inputs = await call.offload(request.ByteSize(), self._tensors, request.inputs)
        ask = _ask(spec, call)
        filtered = [WantedOutput(name) for name in request.output_filter]

        def run(model: Model) -> Deferred[tuple[Inferred, int | None]]:
            name, signature = model.signature(_signature(spec))
            v2.check_outputs(signature, filtered)
            whole, sides = fitted(inputs, signature)
            return self._serving.infer(whole, ask, name).addCallback(lambda got: (got, sides))

        found, sides = await call.run(ask, run)
        begun = self._serving.seconds()
        outputs = narrowed(v2.chosen(found.outputs, filtered), sides)
        response = message("tensorflow.serving.PredictResponse")(
            model_spec=_spec(found.model, found.signature)
        )
        size = sum(array.nbytes for array in outputs.values())
        await call.offload(size, _put, response, outputs)
        call.report(found.times, found.load, encode=self._serving.seconds() - begun)
        return response

    async def _classify(self, request: Any, call: Call) -> Any:
        model, signature, found = await self._examined(tfexamples.classify, request, call)
        response = message("tensorflow.serving.ClassificationResponse")(
            model_spec=_spec(model, signature)
        )
        for row in found.rows:
            told = response.result.classifications.add()
            for label, score in row:
                told.classes.add(label=label, score=score)
        return response

    async def _regress(self, request: Any, call: Call) -> Any:
        model, signature, found = await self._examined(tfexamples.regress, request, call)
        response = message("tensorflow.serving.RegressionResponse")(
            model_spec=_spec(model, signature)
        )
        for value in found.rows:
            response.result.regressions.add(value=value)
        return response

    async def _examined(self, run: Any, request: Any, call: Call) -> tuple[Model, str, Any]:
        """The model, its signature, and what ``run`` finds for the examples of a request."""
        spec = request.model_spec
        ask = _ask(spec, call)
        examples = await call.offload(request.ByteSize(), examples_of, request.input)

        def begin(model: Model) -> Deferred[Any]:
            name, _ = model.signature(_signature(spec))
            found: Deferred[Any] = run(self._serving, ask, model, name, examples)
            return found.addCallback(lambda results: (model, name, results))

        model, signature, found = await call.run(ask, begin)
        call.report(found.times, found.load, encode=0.0)
        return model, signature, found

    async def _multi(self, request: Any, call: Call) -> Any:
        raise Unsupported("MultiInference is not served here; call Classify and Regress")

    async def _metadata(self, request: Any, call: Call) -> Any:
        if not request.metadata_field:
            raise BadRequest(f"metadata_field: got none, wanted {METADATA}")
        for field in request.metadata_field:
            if field != METADATA:
                raise BadRequest(f"metadata_field: got {field!r}, wanted {METADATA}")
        model: Model = await call.ask(self._serving.find, _ask(request.model_spec, call))
        signatures = message("tensorflow.serving.SignatureDefMap")()
        for name, signature in model.runtime.signatures.items():
            told = signatures.signature_def[name]
            told.method_name = f"tensorflow/serving/{signature.method}"
            for infos, specs in (
                (told.inputs, signature.inputs),
                (told.outputs, signature.outputs),
            ):
                for spec in specs:
                    tensorproto.describe(infos[spec.name], spec)
        response = message("tensorflow.serving.GetModelMetadataResponse")(model_spec=_spec(model))
        packed = response.metadata[METADATA]
        packed.type_url = f"type.googleapis.com/{signatures.DESCRIPTOR.full_name}"
        packed.value = signatures.SerializeToString()
        return response

    async def _status(self, request: Any, call: Call) -> Any:
        response = message("tensorflow.serving.GetModelStatusResponse")()
        for each in await call.ask(self._statuses, _ask(request.model_spec, call)):
            status = {"error_code": each.error_code, "error_message": each.problem}
            response.model_version_status.add(
                version=_number(each.version) or 0, state=each.state, status=status
            )
        return response

    async def _reload(self, request: Any, call: Call) -> Any:
        raise Unsupported(
            "this node takes no configuration over the wire; its models are those of its folders "
            "(--models) and its command line"
        )

    def _tensors(self, inputs: Any) -> Tensors:
        return {
            name: tensorproto.to_array(f"input {name}", proto, self._max_bytes)
            for name, proto in inputs.items()
        }

    def _statuses(self, ask: Ask) -> tuple[VersionStatus, ...]:
        """The states of the versions that ``ask`` names.

        :raises ModelNotFound: where there is none; while the node loads, ``Overloaded``.
        """
        if ask.model is None:
            raise BadRequest("model_spec: got no name, wanted a model's")
        catalogue = self._serving.catalogue
        version = ask.version
        if ask.label is not None:
            version = catalogue.find(ask.model, None, ask.label).version
        found = statuses(catalogue, ask.model)
        chosen = tuple(each for each in found if version in (None, each.version))
        if not chosen:
            which = "any versions" if version is None else f"version {version}"
            absent = ModelNotFound(f"Could not find {which} of model {ask.model}")
            raise self._serving.refusal() or absent
        return chosen


def _ask(spec: Any, call: Call) -> Ask:
    kind = spec.WhichOneof("version_choice")
    return Ask(
        call.deadline,
        spec.name or None,
        str(spec.version.value) if kind == "version" else None,
        spec.version_label if kind == "version_label" else None,
    )


def _signature(spec: Any) -> str | None:
    return spec.signature_name or None


def _spec(model: Model, signature: str = "") -> Any:
    """The model that answered, as a ``ModelSpec``."""
    spec = _Spec(name=model.name, signature_name=signature)
    number = _number(model.version)
    if number is not None:
        spec.version.value = number
    return spec


def _number(version: str) -> int | None:
    """A version as the number that it has to be here; ``None`` where it is none."""
    return int(version) if version.isdigit() and int(version) < 2**63 else None


def _put(response: Any, outputs: Tensors) -> None:
    for name, array in outputs.items():
        response.outputs[name].CopyFrom(tensorproto.from_array(array))
