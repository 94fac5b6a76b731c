# SPDX-License-Identifier: MIT
"""Texts and rows of features as people post them, over HTTP in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smls.tensors import Tensors, TensorSpec
from smls_node.signature import DEFAULT, Signature
from tests.memory import Reply
from tests.node.memory import MemoryNode, image, model


class Lengths:
    """A text's bytes and words as its vector; ``sides`` are those of its input."""

    process = problem = ""

    def __init__(self, *sides: int) -> None:
        takes, gives = TensorSpec("text", "BYTES", (-1, *sides)), TensorSpec("v", "FP32", (-1, 2))
        self.signatures = {DEFAULT: Signature((takes,), (gives,))}
        self.example = self.signatures[DEFAULT].zeros()

    def infer(self, inputs: Tensors, signature: str, parameters: Mapping[str, Any]) -> Tensors:
        texts = inputs["text"].reshape(-1)
        return {"v": np.array([[len(each), len(each.split())] for each in texts], np.float32)}

    def unload(self) -> None: ...


class Weights(Lengths):
    """A prediction from two features: a matrix with names, or an input each."""

    def __init__(self, *inputs: TensorSpec, columns: tuple[str, ...] = ()) -> None:
        gives = TensorSpec("predict", "INT64", (-1,))
        self.signatures = {DEFAULT: Signature(inputs, (gives,), columns=columns)}
        self.example = self.signatures[DEFAULT].zeros()

    def infer(self, inputs: Tensors, signature: str, parameters: Mapping[str, Any]) -> Tensors:
        if "x" in inputs:
            return {"predict": (inputs["x"] @ [1, 10]).astype(np.int64)}
        sums = inputs["a"].reshape(-1) + 10 * inputs["b"].reshape(-1)
        return {"predict": sums.astype(np.int64)}


MATRIX = Weights(TensorSpec("x", "FP64", (-1, 2)), columns=("a", "b"))
COLUMNS = Weights(TensorSpec("a", "FP32", (-1, 1)), TensorSpec("b", "INT64", (-1,)))

FORM = "application/x-www-form-urlencoded"


def post(runtime: Any, path: str, body: bytes | object, kind: str = "application/json") -> Reply:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return MemoryNode(model("m", runtime=runtime)).request("POST", path, data, kind)


@pytest.mark.parametrize("runtime", [Lengths(), Lengths(1)])
@pytest.mark.parametrize("path", ["/", "/embed", "/models/m"])
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"message=['Hello world!', 'How?']", FORM),
        (b'message=["Hello world!", "How?"]', FORM),
        (b"message=%5B%27Hello+world%21%27%2C+%27How%3F%27%5D", FORM),
        (b'["Hello world!", "How?"]', "application/json"),
        (b'{"message": ["Hello world!", "How?"]}', "application/json; charset=utf-8"),
    ],
)
def test_texts_become_vectors(runtime: Any, path: str, body: bytes, kind: str) -> None:
    reply = post(runtime, path, body, kind)
    assert (reply.status, json.loads(reply.body)) == (200, [[12.0, 2.0], [4.0, 1.0]])
    assert "infer;dur=" in reply.headers["Server-Timing"]


def test_one_text_needs_no_list() -> None:
    assert json.loads(post(Lengths(), "/embed", b"message=a b", FORM).body) == [[3.0, 2.0]]
    assert json.loads(post(Lengths(), "/embed", "a b").body) == [[3.0, 2.0]]


@pytest.mark.parametrize("runtime", [MATRIX, COLUMNS])
@pytest.mark.parametrize("path", ["/", "/models/m"])
def test_features_become_predictions(runtime: Any, path: str) -> None:
    assert json.loads(post(runtime, path, {"a": 2.0, "b": 1}).body) == {"prediction": [12]}
    rows = [{"a": 2, "b": 1}, {"b": 3, "a": 4}]
    assert json.loads(post(runtime, path, rows).body) == {"prediction": [12, 34]}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (np.asfortranarray([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array([[1, 2], [3, 4]], np.float32)[:, ::-1], [[2, 1], [4, 3]]),
        (np.array([1, 2], ">i8"), [1, 2]),
        (np.array([1.5, np.nan], np.float16), [1.5, None]),
        (np.array([True, False]), [True, False]),
        (np.array([b"no", "\u00e9".encode()], np.object_), ["no", "\u00e9"]),
        (np.array([[b"a", b"b"], [b"c", b"\xff"]], np.object_), [["a", "b"], ["c", "\ufffd"]]),
        (np.array(["no", "yes"]), ["no", "yes"]),
    ],
)
def test_predictions_of_any_kind_are_told(given: Any, told: Any) -> None:
    class Given(Weights):
        def infer(self, inputs: Tensors, signature: str, parameters: Mapping[str, Any]) -> Tensors:
            return {"predict": given}

    runtime = Given(TensorSpec("x", "FP64", (-1, 2)), columns=("a", "b"))
    reply = post(runtime, "/", [{"a": 1, "b": 1}] * 2)
    assert json.loads(reply.body) == {"prediction": told}


@pytest.mark.parametrize(
    ("runtime", "path", "body", "told"),
    [
        (MATRIX, "/", {"a": 1}, "features: got no 'b', wanted a, b"),
        (MATRIX, "/", {"a": 1, "b": 2, "c": 3}, "features: got 'c', wanted a, b"),
        (COLUMNS, "/", {"a": 1, "b": "x"}, "feature b: got 'x', wanted a number"),
        (COLUMNS, "/", {"a": 1, "b": 10**18 * 10}, "feature b: got a number beyond INT64"),
        (MATRIX, "/", [], "got no row"),
        (MATRIX, "/", 7, "wanted an object of features"),
        (MATRIX, "/embed", ["a"], "model m takes no texts"),
        (MATRIX, "/", b"{", "the body is no JSON"),
        (Lengths(), "/", {"a": 1}, "wanted a list of texts"),
        (Lengths(), "/", [], "got no text"),
        (Lengths(), "/", [1], "wanted a list of texts"),
    ],
)
def test_what_is_wrong_is_named(runtime: Any, path: str, body: Any, told: str) -> None:
    reply = post(runtime, path, body)
    assert reply.status == 400
    assert told in json.loads(reply.body)["error"]["message"]


@pytest.mark.parametrize(
    "text", ["['a'", "[" * 50_000, "[1, __import__('os')]", "[b'a']"], ids=range(4)
)
def test_a_list_that_is_none_is_refused_and_runs_nothing(text: str) -> None:
    assert post(Lengths(), "/embed", f"message={text}".encode(), FORM).status == 400


@given(st.binary(max_size=50), st.sampled_from(["application/json", FORM]))
def test_any_bytes_are_answered(body: bytes, kind: str) -> None:
    assert post(Lengths(), "/", body, kind).status in (200, 400)


def test_images_and_values_are_told_apart() -> None:
    node = MemoryNode(model("m", runtime=Lengths()))
    reply = node.request("POST", "/", image(), "image/png")
    assert "model m takes no images" in json.loads(reply.body)["error"]["message"]
    node = MemoryNode(model("m"))
    reply = node.request("POST", "/", b"{}", "application/json")
    assert (reply.status, reply.code) == (415, "not_an_image")
    assert node.request("POST", "/classify", b"{}", "application/json").status == 415
    assert node.request("POST", "/embed", image(), "image/png").status == 400
    assert node.request("POST", "/models/m", image(), "image/png").status == 200
    assert node.request("POST", "/models/x", image(), "image/png").status == 404
