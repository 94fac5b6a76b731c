# SPDX-License-Identifier: MIT
"""The description of the node's calls is that of its routes."""

from __future__ import annotations

import re
from typing import Any

from klein import Klein

from smls_node.faces import app
from tests.node.memory import MemoryNode


def described() -> Any:
    return MemoryNode().request("GET", "/v2/docs/openapi.json").json


def test_each_route_is_described_and_no_other(monkeypatch: Any) -> None:
    made: list[Klein] = []
    monkeypatch.setattr(app, "Klein", lambda: made.append(Klein()) or made[-1])
    MemoryNode()
    routes = {
        (re.sub(r"<(\w+)>", r"{\1}", rule.rule).rstrip("/") or "/", method.lower())
        for rule in made[0].url_map.iter_rules()
        for method in rule.methods or ()
        if method not in ("HEAD", "OPTIONS")
    }
    told = {(path, method) for path, methods in described()["paths"].items() for method in methods}
    # TensorFlow Serving's paths are matched whatever their case, by its own face.
    own = {(path, method) for path, method in told if not path.startswith("/v1/")}
    assert own == {(path, method) for path, method in routes if "any(v1" not in path}


def test_what_is_described_of_tensorflow_serving_is_there() -> None:
    node = MemoryNode()
    for path, methods in described()["paths"].items():
        for method in methods if path.startswith("/v1/") else ():
            asked = path.format(name="light", number="1", label="none")
            told = node.request(method.upper(), asked, b"{}" if method == "post" else b"")
            assert "Malformed" not in told.json.get("error", ""), path
            assert told.status in (200, 400) or "label" in path, path


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
