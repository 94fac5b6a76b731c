# SPDX-License-Identifier: MIT
"""The description of the node's calls is that of its routes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from klein import Klein
from werkzeug.routing import Map

from smls_node.faces import app
from smls_node.faces.tfmodels import Called, called
from tests.node.memory import MemoryNode


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


def test_the_page_needs_nothing_from_elsewhere() -> None:
    page = MemoryNode().request("GET", "/v2/docs")
    assert page.headers["Content-Type"].startswith("text/html")
    assert b"://" not in page.body
