# SPDX-License-Identifier: MIT
"""The node's calls over HTTP as OpenAPI 3.1 describes them. Pure: each face brings its ``PATHS``.

A path is written as OpenAPI has it, ``/v2/models/{name}``; a test holds the paths and methods
against the application's own routes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

ERRORS = {
    "400": "The request is malformed.",
    "404": "There is no such model, version or path.",
    "413": "The body has more bytes than are allowed.",
    "415": "What was sent is no image, or in a Content-Encoding other than gzip and deflate.",
    "422": "The image is broken.",
    "500": "A fault of the node, which its log has.",
    "501": "A part of the protocol that is not served here.",
    "503": "Loading, draining or too busy; Retry-After says when to come back.",
    "504": "The deadline came first.",
}

_OF_BODIES = ("413", "415")

Operation = dict[str, Any]


def operation(
    summary: str,
    *,
    body: Mapping[str, Any] | None = None,
    required: bool = True,
    answer: Mapping[str, Any] | None = None,
    query: Mapping[str, Mapping[str, Any]] | None = None,
    headers: Mapping[str, Mapping[str, Any]] | None = None,
    errors: tuple[str, ...] = (),
) -> Operation:
    """What a path does for one method. ``body`` and ``answer`` are schemas by content type,
    ``query`` and ``headers`` schemas by name, ``errors`` statuses of ``ERRORS``; any body may
    have too many bytes, or be encoded as nobody here can read it."""
    named = [("query", query or {}), ("header", headers or {})]
    parameters = [
        {"name": name, "in": place, "schema": dict(schema)}
        for place, schemas in named
        for name, schema in schemas.items()
    ]
    every = sorted({*errors, *(_OF_BODIES if body is not None else ())})
    told: Operation = {
        "summary": summary,
        "parameters": parameters,
        "responses": {"200": {"description": "The answer.", "content": _content(answer or {})}}
        | {status: {"description": ERRORS[status]} for status in every},
    }
    if body is not None:
        told["requestBody"] = {"required": required, "content": _content(body)}
    return told


def openapi(version: str, *paths: Mapping[str, Mapping[str, Operation]]) -> dict[str, Any]:
    """The description of all faces' paths; ``version`` is the program's."""
    together = {
        path: {method: _with_path(path, operation) for method, operation in methods.items()}
        for each in paths
        for path, methods in each.items()
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "smls node", "version": version},
        "paths": together,
    }


def _with_path(path: str, operation: Operation) -> Operation:
    """``operation`` with the parameters in ``path`` before its own."""
    named = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", path)
    ]
    return {**operation, "parameters": [*named, *operation["parameters"]]}


def _content(schemas: Mapping[str, Any]) -> dict[str, Any]:
    return {kind: {"schema": schema} for kind, schema in schemas.items()}


def json_schema(**properties: Any) -> dict[str, Any]:
    """An object with these properties; those that must be there end in ``_``.

    >>> json_schema(name_={"type": "string"})["required"]
    ['name']
    """
    return {
        "type": "object",
        "properties": {name.rstrip("_"): schema for name, schema in properties.items()},
        "required": [name[:-1] for name in properties if name.endswith("_")],
    }
