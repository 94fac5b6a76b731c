# SPDX-License-Identifier: MIT
"""TensorFlow Serving's REST as its users call it, with ``requests`` on a real node."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from tests.processes import ROOT, Running

THREE = ROOT / "examples" / "digits" / "three.jpg"

AVAILABLE = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}


def address(node: Running, model: str) -> str:
    """A model's, as TensorFlow Serving's documentation writes it."""
    return f"{node.url}v1/models/{model}"


@pytest.fixture
def url(node: Running) -> str:
    return address(node, "digits")


@pytest.fixture
def half(tensorflow_models: Running) -> str:
    return address(tensorflow_models, "half_plus_two")


def post(url: str, body: Any, status: int = 200) -> Any:
    """The answer to ``body``; a text is sent as it is."""
    data = body if isinstance(body, str) else json.dumps(body)
    answer = requests.post(url, data=data, timeout=60)
    assert answer.status_code == status, answer.text
    return answer.json()


def pixels() -> list[list[list[list[float]]]]:
    """The image as the model takes it: float[1, 32, 32, 3]."""
    with Image.open(THREE) as image:
        scaled = np.asarray(image.convert("RGB").resize((32, 32)), np.float32) / 255
    return scaled[None].tolist()


def test_status_and_metadata(url: str) -> None:
    assert requests.get(url, timeout=30).json() == {
        "model_version_status": [{"version": "1", **AVAILABLE}],
        "ready": True,
    }
    metadata = requests.get(f"{url}/metadata", timeout=30).json()
    assert metadata["model_spec"]["name"] == "digits"
    (signature,) = metadata["metadata"]["signature_def"]["signature_def"].values()
    ((_, pixels),) = signature["inputs"].items()
    assert pixels["dtype"] == "DT_FLOAT"
    assert [side["size"] for side in pixels["tensor_shape"]["dim"]] == ["-1", "32", "32", "3"]


def test_predict_by_row_and_by_column_and_at_a_version(url: str) -> None:
    row = requests.post(f"{url}:predict", json={"instances": pixels() * 2}, timeout=30)
    first, second = row.json()["predictions"]
    assert first == second
    assert len(first) == 10
    assert sum(first) == pytest.approx(1, abs=1e-3)
    column = requests.post(f"{url}/versions/1:predict", json={"inputs": pixels()}, timeout=30)
    assert column.json()["outputs"] == [pytest.approx(first, abs=1e-5)]


def test_classify_an_image_file(url: str) -> None:
    image = {"b64": b64encode(THREE.read_bytes()).decode()}
    answer = requests.post(f"{url}:classify", json={"examples": [{"image": image}]}, timeout=30)
    (best, *_, worst) = answer.json()["results"][0]
    assert best[0] == "3"
    assert best[1] > worst[1]


def test_a_large_request_is_answered(url: str) -> None:
    """Past the size that is parsed on the reactor."""
    answer = requests.post(f"{url}:predict", json={"instances": pixels() * 64}, timeout=60)
    assert len(answer.json()["predictions"]) == 64


def test_errors_are_told_as_tensorflow_serving_does(url: str) -> None:
    absent = requests.post(f"{url}s:predict", json={"instances": [1.0]}, timeout=30)
    assert absent.status_code == 404
    assert absent.json() == {"error": "Servable not found for request: Latest(digitss)"}
    wrong = requests.post(f"{url}:predict", json={"instances": ["x"]}, timeout=30)
    assert wrong.status_code == 400
    assert "not of expected type: float" in wrong.json()["error"]


def test_the_states_of_versions_and_labels(half: str) -> None:
    newer, older = ({"version": version, **AVAILABLE} for version in ("123", "7"))
    for path, wanted in {
        "": [newer, older],
        "/versions/123": [newer],
        "/versions/00000123": [newer],
        "/labels/canary": [older],
    }.items():
        answer = requests.get(half + path, timeout=30)
        assert answer.json() == {"model_version_status": wanted, "ready": True}


def test_the_signatures_are_those_of_the_saved_model(half: str) -> None:
    metadata = requests.get(f"{half}/metadata", timeout=30).json()
    assert metadata["model_spec"] == {
        "name": "half_plus_two",
        "signature_name": "",
        "version": "123",
    }
    found = metadata["metadata"]["signature_def"]["signature_def"]
    assert {name: each["method_name"].rpartition("/")[2] for name, each in found.items()} == {
        "serving_default": "predict",
        "classify_x_to_y": "classify",
        "regress_x_to_y": "regress",
        "regress_x_to_y2": "regress",
        "tensorflow/serving/regress": "regress",
    }
    assert found["classify_x_to_y"]["inputs"]["inputs"]["dtype"] == "DT_STRING"
    x = found["serving_default"]["inputs"]["x"]
    assert x["dtype"] == "DT_FLOAT"
    assert [side["size"] for side in x["tensor_shape"]["dim"]] == ["-1", "1"]


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ({"instances": [1.0, 2.0, 5.0]}, {"predictions": [2.5, 3.0, 4.5]}),
        ({"instances": [[1.0], [2.0]]}, {"predictions": [[2.5], [3.0]]}),
        ({"instances": [{"x": 1.0}, {"x": 2.0}]}, {"predictions": [2.5, 3.0]}),
        ({"inputs": [1.0, 2.0]}, {"outputs": [2.5, 3.0]}),
        ({"inputs": 2.0}, {"outputs": 3.0}),
        ({"inputs": {"x": [[1.0], [2.0]]}}, {"outputs": [[2.5], [3.0]]}),
        ({"signature_name": "serving_default", "instances": [4]}, {"predictions": [4.0]}),
    ],
)
def test_half_plus_two_by_row_and_by_column(half: str, asked: Any, answered: Any) -> None:
    assert post(f"{half}:predict", asked) == answered


def test_what_is_no_number_comes_back_as_it_went(half: str) -> None:
    answer = requests.post(
        f"{half}:predict", data='{"instances": [NaN, Infinity, -Infinity]}', timeout=30
    )
    assert answer.text.strip() == '{"predictions":[NaN,Infinity,-Infinity]}'


@pytest.mark.parametrize(
    ("which", "answered"),
    [
        ("/versions/123", 2.5),
        ("/versions/7", 3.5),
        ("/labels/stable", 2.5),
        ("/labels/canary", 3.5),
    ],
)
def test_a_version_and_a_label_are_asked(half: str, which: str, answered: float) -> None:
    asked = {"instances": [1.0]}
    assert post(f"{half}{which}:predict", asked) == {"predictions": [answered]}


def test_examples_are_regressed_and_classified(half: str, tensorflow_models: Running) -> None:
    examples = [{"x": 1.0}, {"x": 2.0}]
    for name, answered in {"regress_x_to_y": [2.5, 3.0], "regress_x_to_y2": [3.5, 4.0]}.items():
        body = {"signature_name": name, "examples": examples}
        assert post(f"{half}:regress", body) == {"results": answered}
    body = {"signature_name": "classify_x_to_y", "examples": examples}
    assert post(f"{half}:classify", body) == {"results": [[["", 2.5]], [["", 3.0]]]}
    body = {"signature_name": "regress_x_to_y", "context": {"x": 4.0}, "examples": [{}]}
    assert post(f"{half}:regress", body) == {"results": [4.0]}
    body = {"signature_name": "tensorflow/serving/regress", "examples": examples}
    three = address(tensorflow_models, "half_plus_three")
    assert post(f"{three}:regress", body) == {"results": [3.5, 4.0]}


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        ("s:predict", {"instances": [1]}, 404, "for request: Latest(half_plus_twos)"),
        ("/versions/9:predict", {"instances": [1]}, 404, "Specific(half_plus_two, 9)"),
        ("/labels/x:predict", {"instances": [1]}, 400, "Unrecognized servable version label: x"),
        (":explain", {"instances": [1]}, 400, "Malformed request: POST /v1/models/half_plus_two"),
        (":predict", "", 400, "JSON Parse error: The document is empty"),
        (":predict", "{", 400, "JSON Parse error"),
        (":predict", "[" * 100_000, 400, "JSON Parse error"),
        (":predict", "[]", 400, "Is not object"),
        (":predict", {}, 400, "Missing 'inputs' or 'instances' key"),
        (":predict", {"instances": [1], "inputs": [1]}, 400, "only one of 'inputs' or 'instances'"),
        (":predict", {"instances": []}, 400, "No values in 'instances' array"),
        (":predict", {"instances": ["x"]}, 400, "not of expected type: float"),
        (":predict", {"instances": [1e39]}, 400, "not of expected type: float"),
        (":predict", {"instances": [[1, 2]]}, 400, "got FP32[1, 2], wanted FP32[?, 1]"),
        (":predict", {"instances": [1, [2]]}, 400, "Expecting shape [] but got: [1]"),
        (":predict", {"instances": [{"z": 1}]}, 400, "does not have named input: z"),
        (":predict", {"signature_name": "z", "instances": [1]}, 400, '"z" not found in signature'),
        (":regress", {"signature_name": "regress_x_to_y"}, 400, "key 'examples' is expected"),
        (
            ":regress",
            {"signature_name": "regress_x_to_y", "examples": [{"z": 1.0}]},
            400,
            "x (data type: float) is required but could not be found",
        ),
        (
            ":regress",
            {"signature_name": "regress_x_to_y", "examples": [{"x": 1}]},
            400,
            "Data type: int64 but expected type: float",
        ),
        (":classify", {"examples": [{"x": 1.0}]}, 400, "Expected classification signature"),
    ],
)
def test_errors_are_told(half: str, path: str, body: Any, status: int, told: str) -> None:
    assert told in post(half + path, body, status)["error"]


def test_a_status_that_there_is_none_of_is_told(half: str) -> None:
    for path, status, told in (
        ("s", 404, "Could not find any versions of model half_plus_twos"),
        ("/versions/9", 404, "Could not find version 9 of model half_plus_two"),
        ("/labels/x", 400, "Unrecognized servable version label: x"),
    ):
        answer = requests.get(half + path, timeout=30)
        assert answer.status_code == status
        assert told in answer.json()["error"]


def test_large_answers_are_packed_where_that_is_asked_for(half: str) -> None:
    """requests asks for it and unpacks."""
    answer = requests.post(f"{half}:predict", json={"inputs": [1.0] * 100_000}, timeout=60)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.json() == {"outputs": [2.5] * 100_000}
