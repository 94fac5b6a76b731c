# SPDX-License-Identifier: MIT
"""TensorFlow Serving's REST as its users call it, with ``requests`` on a real node."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator

import numpy as np
import pytest
import requests
from PIL import Image

from tests.processes import LOCAL, ROOT, running

THREE = ROOT / "examples" / "digits" / "three.jpg"

MEASURED = ("--operator-threads", "1", "--runs", "1")
"""Nothing is measured, which would take longer than the tests."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of the model ``digits``, as TensorFlow Serving's documentation writes it."""
    with running("smls-node", *LOCAL, *MEASURED) as node:
        yield f"{node.url.rstrip('/')}/v1/models/digits"


def pixels() -> list[list[list[list[float]]]]:
    """The image as the model takes it: float[1, 32, 32, 3]."""
    with Image.open(THREE) as image:
        scaled = np.asarray(image.convert("RGB").resize((32, 32)), np.float32) / 255
    return scaled[None].tolist()


def test_status_and_metadata(url: str) -> None:
    assert requests.get(url, timeout=30).json() == {
        "model_version_status": [
            {
                "version": "1",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
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
