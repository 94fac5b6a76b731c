# SPDX-License-Identifier: MIT
"""The Open Inference Protocol (V2) over HTTP, as KServe, Triton and MLServer speak it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from smls.errors import BadRequest, SmlsError, Unavailable, Unsupported
from smls.inference import (
    BINARY,
    LENGTH_HEADER,
    Body,
    InferAnswer,
    InferRequest,
    json_length,
    read_request,
    write_answer,
)
from smls.site import LimitedRequest
from smls.tensorbytes import shown
from smls.tensorjson import parse
from smls.web import Answer, json_answer
from smls_node.catalogue import Model
from smls_node.faces import v2
from smls_node.faces.terms import Terms
from smls_node.serving import Ask, Inferred, ModelControl, Serving
from smls_node.worker import Times

F = TypeVar("F", bound=Callable[..., Any])


def add_routes(app: Any, serving: Serving, terms: Terms, version: str) -> None:
    """Adds the calls to the Klein application; ``version`` is the program's."""

    def get(path: str) -> Callable[[F], F]:
        route: Callable[[F], F] = app.route(path, methods=["GET"])
        return route

    def post(path: str) -> Callable[[F], F]:
        route: Callable[[F], F] = app.route(path, methods=["POST"])
        return route

    @get("/v2")
    @get("/v2/")
    def server(request: LimitedRequest) -> bytes:
        return json_answer(v2.server(version)).write_to(request)

    @get("/v2/health/live")
    def live(request: LimitedRequest) -> bytes:
        return json_answer({"live": True}).write_to(request)

    @get("/v2/health/ready")
    def ready(request: LimitedRequest) -> bytes:
        refusal = serving.refusal()
        if refusal is not None:
            raise refusal
        return json_answer({"ready": True}).write_to(request)

    @get("/v2/models/<name>")
    @get("/v2/models/<name>/versions/<number>")
    def model(request: LimitedRequest, name: str, number: str | None = None) -> bytes:
        found = serving.find(_ask(name, number))
        signature = request.head().argument("signature_name")
        told = v2.metadata(serving.catalogue, found, signature)
        if len(found.runtime.signatures) > 1:
            told["parameters"] = {"signature_names": [*found.runtime.signatures]}
        return json_answer(told).write_to(request)

    @get("/v2/models/<name>/ready")
    @get("/v2/models/<name>/versions/<number>/ready")
    def model_ready(request: LimitedRequest, name: str, number: str | None = None) -> bytes:
        refusal = serving.refusal()
        if refusal is not None:
            raise refusal
        found = serving.find(_ask(name, number))
        return json_answer({"name": found.name, "ready": True}).write_to(request)

    @post("/v2/models/<name>/infer")
    @post("/v2/models/<name>/versions/<number>/infer")
    def infer(request: LimitedRequest, name: str, number: str | None = None) -> Deferred[bytes]:
        return Deferred.fromCoroutine(_infer(serving, terms, request, name, number))

    @post("/v2/repository/index")
    def index(request: LimitedRequest) -> bytes:
        wanted = _body(request).get("ready", False)
        if not isinstance(wanted, bool):
            raise BadRequest(f"ready: got {shown(wanted)}, wanted true or false")
        return json_answer(v2.index(serving.catalogue, wanted)).write_to(request)

    @post("/v2/repository/models/<name>/load")
    def load(request: LimitedRequest, name: str) -> Deferred[bytes]:
        if _body(request).get("parameters"):
            raise Unsupported("parameters: a model is loaded as its folder says, and not otherwise")
        return _control(serving).load(name).addCallback(lambda _: _nothing(request))

    @post("/v2/repository/models/<name>/unload")
    def unload(request: LimitedRequest, name: str) -> Deferred[bytes]:
        _body(request)
        return _control(serving).unload(name).addCallback(lambda _: _nothing(request))


async def _infer(
    serving: Serving, terms: Terms, request: LimitedRequest, name: str, number: str | None
) -> bytes:
    model = serving.find(_ask(name, number))
    try:
        return await _answered(serving, terms, request, model)
    except SmlsError as error:
        if isinstance(error, Unavailable):
            # Who is told to go elsewhere balances by this.
            terms.report(request, Times(), model.workers.load(), encode=0.0)
        raise


async def _answered(serving: Serving, terms: Terms, request: LimitedRequest, model: Model) -> bytes:
    body: memoryview = request.content.whole()
    length = json_length(request.getHeader(LENGTH_HEADER), len(body))
    if length == 0 and len(body):
        _, first = model.signature()
        asked_for = InferRequest(v2.raw_inputs(first, body), binary=True)
    else:
        asked_for = await terms.offload(len(body), read_request, body, length)
    wishes = v2.asked(asked_for.parameters)
    signature_name, signature = model.signature(wishes.signature)
    v2.check_outputs(signature, asked_for.outputs)
    now = serving.seconds()
    ask = Ask(
        deadline=terms.deadline(request, now, wishes.timeout_seconds),
        model=model.name,
        version=model.version,
        priority=wishes.priority,
    )
    parameters = v2.for_model(signature, wishes.rest, asked_for.input_parameters)
    found: Inferred = await serving.infer(asked_for.inputs, ask, signature_name, parameters)
    begun = serving.seconds()
    outputs = v2.chosen(found.outputs, asked_for.outputs)
    size = sum(array.nbytes for array in outputs.values())
    binary = frozenset(filter(asked_for.is_binary, outputs))
    answer = InferAnswer(model.name, model.version, outputs, asked_for.id)
    written: Body = await terms.offload(size, write_answer, answer, binary)
    terms.report(request, found.times, found.load, encode=serving.seconds() - begun)
    if written.json_bytes is None:
        return await terms.told(request, Answer(200, written.data))
    # Bytes go as they are: packing numbers takes longer than sending them, and saves a tenth.
    headers = ((LENGTH_HEADER, str(written.json_bytes)),)
    return Answer(200, written.data, BINARY, headers).write_to(request)


def _ask(name: str, number: str | None) -> Ask:
    return Ask(deadline=0.0, model=name, version=number)


def _control(serving: Serving) -> ModelControl:
    if serving.control is None:
        raise Unsupported("this node loads and unloads no models on demand")
    return serving.control


def _body(request: LimitedRequest) -> dict[str, Any]:
    """What a call of the repository says, which may be nothing."""
    body = request.content.whole()
    return parse("the body", body, ("ready", "parameters"), ()) if len(body) else {}


def _nothing(request: LimitedRequest) -> bytes:
    return Answer(200).write_to(request)
