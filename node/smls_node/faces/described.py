# SPDX-License-Identifier: MIT
"""What the faces say of their own calls, in one place. Pure; see ``description``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from smls.inference import LENGTH_HEADER
from smls.tensors import DATATYPES
from smls_node.faces.description import json_schema, operation

TEXT = {"type": "string"}
FLAG = {"type": "boolean"}
ANY = {"type": "object"}
JSON = "application/json"
BYTES = "application/octet-stream"

_SHAPE = {"type": "array", "items": {"type": "integer"}}
_DATATYPE = {"enum": list(DATATYPES)}
_PARAMETERS = {"type": "object"}

_SPEC = json_schema(name_=TEXT, datatype_=_DATATYPE, shape_=_SHAPE)
_TENSOR = json_schema(
    name_=TEXT,
    datatype_=_DATATYPE,
    shape_={"type": "array", "items": {"type": "integer", "minimum": 0}},
    data={"type": "array"},
    parameters=_PARAMETERS,
)
_REQUEST = json_schema(
    id=TEXT,
    parameters=_PARAMETERS,
    inputs_={"type": "array", "items": _TENSOR},
    outputs={"type": "array", "items": json_schema(name_=TEXT, parameters=_PARAMETERS)},
)
_ANSWER = json_schema(
    model_name_=TEXT,
    model_version_=TEXT,
    id=TEXT,
    outputs_={"type": "array", "items": _TENSOR},
)
_MODEL = json_schema(
    name_=TEXT,
    versions_={"type": "array", "items": TEXT},
    platform_=TEXT,
    inputs_={"type": "array", "items": _SPEC},
    outputs_={"type": "array", "items": _SPEC},
    parameters=json_schema(signature_names={"type": "array", "items": TEXT}),
)
_INDEX = {
    "type": "array",
    "items": json_schema(name_=TEXT, version_=TEXT, state_=TEXT, reason_=TEXT),
}
_NAMED: dict[str, dict[str, Any]] = {
    "model": TEXT,
    "version": TEXT,
    "label": TEXT,
    "top": {"type": "integer", "minimum": 1, "maximum": 999_999_999},
    "priority": {"type": "integer", "minimum": 1, "maximum": 9},
}
_TIMEOUT = {"X-Request-Timeout-Ms": {"type": "number", "exclusiveMinimum": 0}}
_IMAGE = {
    "multipart/form-data": json_schema(data_={"type": "string", "format": "binary"}),
    "image/*": {"type": "string", "format": "binary"},
}
_VALUES = {JSON: {}, "application/x-www-form-urlencoded": json_schema(message=TEXT)}
_IMAGE_ERRORS = ("400", "404", "422", "500", "503", "504")
_FOUND = {JSON: {"type": ["object", "array"]}}


def _natural(summary: str, body: Mapping[str, Any], *left_out: str) -> dict[str, Any]:
    """A call for images, or for values too; ``left_out`` is what its query cannot have."""
    return operation(
        summary,
        body=body,
        answer=_FOUND,
        query={name: schema for name, schema in _NAMED.items() if name not in left_out},
        headers=_TIMEOUT,
        errors=_IMAGE_ERRORS,
    )


def _model() -> dict[str, Any]:
    return operation(
        "What a model takes and gives",
        query={"signature_name": TEXT},
        answer={JSON: _MODEL},
        errors=("400", "404", "503"),
    )


def _ready() -> dict[str, Any]:
    answer = {JSON: json_schema(name_=TEXT, ready_=FLAG)}
    return operation("Whether a model answers", answer=answer, errors=("404", "503"))


def _infer() -> dict[str, Any]:
    return operation(
        "Run a model on named tensors",
        body={JSON: _REQUEST, BYTES: {}},
        answer={JSON: _ANSWER, BYTES: {}},
        headers={LENGTH_HEADER: {"type": "integer", "minimum": 0}} | _TIMEOUT,
        errors=("400", "404", "500", "501", "503", "504"),
    )


def _embed() -> dict[str, Any]:
    return operation(
        "A vector for each text",
        body=_VALUES,
        answer={JSON: {"type": "array"}},
        query=dict.fromkeys(("model", "version", "label"), TEXT),
        headers=_TIMEOUT,
        errors=("400", "404", "500", "503", "504"),
    )


def _verb(verb: str) -> dict[str, Any]:
    columns = json_schema(signature_name=TEXT, instances={"type": "array"}, inputs={})
    examples = json_schema(signature_name=TEXT, context=ANY, examples_={"type": "array"})
    return operation(
        f"TensorFlow Serving's {verb}",
        body={JSON: columns if verb == "predict" else examples},
        answer={JSON: ANY},
        headers=_TIMEOUT,
        errors=("400", "404", "500", "503", "504"),
    )


def _control(summary: str) -> dict[str, Any]:
    body, errors = {JSON: ANY}, ("400", "404", "500", "501", "503")
    return operation(summary, body=body, required=False, answer={}, errors=errors)


def _plain(summary: str, kind: str = JSON, **errors: tuple[str, ...]) -> dict[str, Any]:
    schema = ANY if kind == JSON else TEXT
    return operation(summary, answer={kind: schema}, **errors)  # type: ignore[arg-type]


FORMS = {
    "/": {
        "get": operation("What the node is", answer={JSON: ANY, "text/html": TEXT}),
        "post": _natural("What a model says of images, texts or features", _IMAGE | _VALUES),
    },
    "/models/{name}": {
        "post": _natural("The same of one model", _IMAGE | _VALUES, "model"),
    },
    "/embed": {"post": _embed()},
    "/classify": {"post": _natural("The labels of images", _IMAGE)},
    "/healthz": {"get": _plain("Whether the process lives")},
    "/readyz": {"get": _plain("Whether the node takes requests", errors=("503",))},
}

METRICS = {
    path: {"get": _plain("What Prometheus reads", "text/plain")}
    for path in ("/metrics", "/monitoring/prometheus/metrics")
}

TFSERVING = {
    path: methods
    for model in (
        "/v1/models/{name}",
        "/v1/models/{name}/versions/{number}",
        "/v1/models/{name}/labels/{label}",
    )
    for path, methods in {
        model: {"get": _plain("The states of a model's versions", errors=("404", "503"))},
        f"{model}/metadata": {"get": _plain("A model's signatures", errors=("404", "503"))},
        **{f"{model}:{verb}": {"post": _verb(verb)} for verb in ("predict", "classify", "regress")},
    }.items()
}

OIP = {
    "/v2": {"get": _plain("What the server is")},
    "/v2/health/live": {"get": _plain("Whether the process lives")},
    "/v2/health/ready": {"get": _plain("Whether the node takes requests", errors=("503",))},
    "/v2/models/{name}": {"get": _model()},
    "/v2/models/{name}/versions/{number}": {"get": _model()},
    "/v2/models/{name}/ready": {"get": _ready()},
    "/v2/models/{name}/versions/{number}/ready": {"get": _ready()},
    "/v2/models/{name}/infer": {"post": _infer()},
    "/v2/models/{name}/versions/{number}/infer": {"post": _infer()},
    "/v2/repository/index": {
        "post": operation(
            "Each version of each model, and its state",
            body={JSON: json_schema(ready=FLAG)},
            required=False,
            answer={JSON: _INDEX},
            errors=("400", "503"),
        )
    },
    "/v2/repository/models/{name}/load": {"post": _control("Load a model, or load it anew")},
    "/v2/repository/models/{name}/unload": {"post": _control("Unload a model")},
    "/v2/docs": {"get": _plain("These calls, as a page to try them", "text/html")},
    "/v2/docs/openapi.json": {"get": _plain("These calls, as OpenAPI 3.1")},
}
