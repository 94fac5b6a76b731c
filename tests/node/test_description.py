# SPDX-License-Identifier: MIT
"""The description of the node's calls is that of its routes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from klein import Klein
from werkzeug.routing import Map

from smls.tensors import Tensors, TensorSpec
from smls_node.faces import app
from smls_node.faces.tfmodels import Called, called
from smls_node.signature import DEFAULT, Signature
from tests.node.memory import HalfPlusTwo, MemoryNode, model


def described() -> Any:
    return MemoryNode().request("GET", "/v2/docs/openapi.json").json


@pytest.fixture
def routes(monkeypatch: pytest.MonkeyPatch) -> Map:
    made: list[Klein] = []
    monkeypatch.setattr(app, "Klein", lambda: made.append(Klein()) or made[-1])
    MemoryNode()
    return made[0].url_map


def test_each_route_is_described_and_no_other(routes: Map) -> None:
    reached = set()
    for path, methods in described()["paths"].items():
        for method in methods:
            # What no route takes is an error of the matching.
            rule, _ = routes.bind("node").match(filled(path), method.upper(), return_rule=True)
            reached.add((rule.rule.rstrip("/"), method.upper()))
    assert reached == {
        (rule.rule.rstrip("/"), method)
        for rule in routes.iter_rules()
        for method in rule.methods or ()
        if method not in ("HEAD", "OPTIONS")
    }


def test_each_of_tensorflow_servings_calls_is_described_and_no_other() -> None:
    """One route takes them all, and has rules of its own for what follows."""
    told = [
        (method, path)
        for path, methods in described()["paths"].items()
        if path.startswith("/v1/")
        for method in methods
    ]
    asked = {(method, called(method.upper(), filled(path))) for method, path in told}
    verbs = {"get": ("status", "metadata"), "post": ("predict", "classify", "regress")}
    assert asked == {
        (method, Called("1", version, label, verb))
        for method, those in verbs.items()
        for verb in those
        for version, label in ((None, None), ("1", None), (None, "1"))
    }
    assert len(told) == len(asked)


def filled(path: str) -> str:
    return re.sub(r"{\w+}", "1", path)


def test_parameters_of_a_path_are_told() -> None:
    found = described()
    assert found["openapi"].startswith("3.1")
    assert found["info"]["version"] == "1.2.3"
    for path, methods in found["paths"].items():
        for operation in methods.values():
            named = [each["name"] for each in operation["parameters"] if each["in"] == "path"]
            assert named == re.findall(r"{(\w+)}", path)
            assert operation["summary"]


def test_each_example_is_answered_as_it_stands() -> None:
    models = (
        model("light"),
        model("half", "3", HalfPlusTwo()),
        model("texts", runtime=Echo(TensorSpec("text", "BYTES", (-1,)))),
        model("open", runtime=Echo(TensorSpec("x", "FP16", (-1, -1, 3)))),
        model("two", runtime=Echo(*(TensorSpec(name, "INT64", (-1,)) for name in "ab"))),
        model("flag", runtime=Echo(TensorSpec("is", "BOOL", ()), batches=False)),
        model("fixed", runtime=Echo(TensorSpec("x", "FP32", (2, 4)), batches=False)),
    )
    node = MemoryNode(*models)
    node.serving.catalogue.label({each.name: {"stable": each.version} for each in models})
    found = node.request("GET", "/v2/docs/openapi.json").json
    asked = set()
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {})
            for name, place in content.get("application/json", {}).get("examples", {}).items():
                body = found["components"]["examples"][place["$ref"].rpartition("/")[2]]["value"]
                reply = node.request(
                    method.upper(), named(path, operation, name), json.dumps(body).encode()
                )
                assert reply.status == 200, (path, name, reply.body)
                asked.add((path, name))
            if method == "get" and any("examples" in each for each in operation["parameters"]):
                for each in models:
                    assert node.request("GET", named(path, operation, each.name)).status == 200
    calls = {path for path, _ in asked}
    assert len(calls) == 5
    assert asked == {(path, each.name) for path in calls for each in models}


def named(path: str, operation: Any, name: str) -> str:
    """The path for the model of that name; it has one label, which is ``stable``."""
    for each in operation["parameters"]:
        if each["in"] == "path":
            own = each["examples"][name]["value"] if "examples" in each else "stable"
            path = path.replace(f"{{{each['name']}}}", own)
    return path


class Echo:
    """Gives back what it is given."""

    process = problem = ""

    def __init__(self, *specs: TensorSpec, batches: bool = True) -> None:
        self.signatures = {DEFAULT: Signature(specs, specs, batches)}
        self.example = self.signatures[DEFAULT].zeros()

    def infer(self, inputs: Tensors, signature: str, parameters: Mapping[str, Any]) -> Tensors:
        return inputs

    def unload(self) -> None: ...


def test_models_whose_examples_json_cannot_tell_have_none() -> None:
    picture = Echo(TensorSpec("jpeg", "BYTES", ()), batches=False)
    picture.example = {"jpeg": np.array(b"\xff\xd8", np.object_)}
    huge = Echo(TensorSpec("x", "FP32", (-1, 2000, 2000)))
    node = MemoryNode(model("picture", runtime=picture), model("huge", runtime=huge))
    found = node.request("GET", "/v2/docs/openapi.json").json
    assert found["components"]["examples"] == {}
    (name, *_) = found["paths"]["/v2/models/{name}/infer"]["post"]["parameters"]
    assert set(name["examples"]) == {"picture", "huge"}


def test_what_changes_a_node_is_not_filled_in() -> None:
    assert "examples" not in json.dumps(described()["paths"]["/v2/repository/models/{name}/unload"])


def test_the_page_needs_nothing_from_elsewhere() -> None:
    page = MemoryNode().request("GET", "/v2/docs")
    assert page.headers["Content-Type"].startswith("text/html")
    assert b"://" not in page.body
