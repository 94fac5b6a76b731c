# SPDX-License-Identifier: MIT
"""tritonclient over gRPC, as it is installed and with its default settings."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from smls_node.examples import serialized
from tests.processes import Running

triton = pytest.importorskip("tritonclient.grpc")

IMAGES = np.random.default_rng(6).random((3, 32, 32, 3), np.float32)


@pytest.fixture
def client(node: Running) -> Iterator[Any]:
    with triton.InferenceServerClient(node.grpc_address) as found:
        yield found


def inputs(array: Any = IMAGES, name: str = "input") -> list[Any]:
    tensor = triton.InferInput(name, array.shape, "FP32")
    tensor.set_data_from_numpy(array)
    return [tensor]


def test_the_server_and_the_model_tell_what_they_are(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert not client.is_model_ready("roses")
    assert client.get_server_metadata(as_json=True)["name"] == "smls-node"
    about = client.get_model_metadata("digits", as_json=True)
    assert (about["platform"], about["versions"]) == ("tensorflow_graphdef", ["1"])
    assert about["inputs"] == [
        {"name": "input", "datatype": "FP32", "shape": ["-1", "32", "32", "3"]}
    ]
    (indexed,) = client.get_model_repository_index(as_json=True)["models"]
    assert (indexed["name"], indexed["state"]) == ("digits", "READY")


def test_arrays_are_answered_with_arrays(client: Any) -> None:
    together = client.infer("digits", inputs(), request_id="7", priority=1, timeout=20_000_000)
    scores = together.as_numpy("final_result")
    assert (together.get_response().id, scores.shape) == ("7", (3, 10))
    for row, image in zip(scores, IMAGES, strict=True):
        alone = client.infer(
            "digits",
            inputs(image[None]),
            model_version="1",
            outputs=[triton.InferRequestedOutput("final_result")],
        )
        assert np.allclose(alone.as_numpy("final_result")[0], row, atol=1e-5)


def test_compressed_requests_are_answered(client: Any) -> None:
    plain = client.infer("digits", inputs()).as_numpy("final_result")
    for compression in ("gzip", "deflate"):
        found = client.infer("digits", inputs(), compression_algorithm=compression)
        assert np.allclose(found.as_numpy("final_result"), plain, atol=1e-5)


def test_a_call_in_the_background_is_answered(client: Any) -> None:
    done, told = threading.Event(), []

    def answered(result: Any, error: Any) -> None:
        told.append((result, error))
        done.set()

    client.async_infer("digits", inputs(), answered)
    assert done.wait(30)
    result, error = told[0]
    assert error is None
    assert result.as_numpy("final_result").shape == (3, 10)


@pytest.mark.parametrize(
    ("model", "given", "more", "status", "told"),
    [
        ("roses", inputs(), {}, "NOT_FOUND", "got 'roses', wanted one of digits"),
        ("digits", inputs(), {"model_version": "9"}, "NOT_FOUND", "version: got '9'"),
        ("digits", inputs(name="sound"), {}, "INVALID_ARGUMENT", "got no 'input'"),
        ("digits", inputs(IMAGES[:, :8]), {}, "INVALID_ARGUMENT", "wanted FP32[?, 32, 32, 3]"),
        (
            "digits",
            inputs(),
            {"outputs": [triton.InferRequestedOutput("x")]},
            "INVALID_ARGUMENT",
            "outputs: got 'x'",
        ),
        (
            "digits",
            inputs(),
            {"outputs": [triton.InferRequestedOutput("final_result", class_count=3)]},
            "UNIMPLEMENTED",
            "classification is not served",
        ),
    ],
)
def test_errors_are_this_clients_own(
    client: Any, model: str, given: Any, more: dict[str, Any], status: str, told: str
) -> None:
    with pytest.raises(triton.InferenceServerException) as error:
        client.infer(model, given, **more)
    assert error.value.status() == f"StatusCode.{status}"
    assert told in error.value.message()


def test_a_deadline_that_is_too_short_is_told(client: Any) -> None:
    with pytest.raises(triton.InferenceServerException) as error:
        client.infer("digits", inputs(), client_timeout=1e-5)
    assert error.value.status() == "StatusCode.DEADLINE_EXCEEDED"


def test_models_of_the_command_line_are_not_loaded_on_demand(client: Any) -> None:
    for call in (client.load_model, client.unload_model):
        with pytest.raises(triton.InferenceServerException) as error:
            call("digits")
        assert error.value.status() == "StatusCode.UNIMPLEMENTED"


def test_the_asyncio_client_is_answered(node: Running) -> None:
    from tritonclient.grpc import aio

    async def ask() -> list[Any]:
        async with aio.InferenceServerClient(node.grpc_address) as client:
            assert await client.is_server_ready()
            calls = [client.infer("digits", inputs(image[None])) for image in IMAGES]
            return [each.as_numpy("final_result")[0] for each in await asyncio.gather(*calls)]

    with triton.InferenceServerClient(node.grpc_address) as client:
        wanted = client.infer("digits", inputs()).as_numpy("final_result")
    assert np.allclose(asyncio.run(ask()), wanted, atol=1e-5)


def test_another_signature_is_asked_for_by_its_name(tensorflow_models: Running) -> None:
    example = serialized({"x": [4.0]})
    given = triton.InferInput("inputs", [2], "BYTES")
    given.set_data_from_numpy(np.array([example, example], np.object_))
    more = {"parameters": {"signature_name": "regress_x_to_y2"}, "model_version": "7"}
    with triton.InferenceServerClient(tensorflow_models.grpc_address) as client:
        found = client.infer("half_plus_two", [given], **more).as_numpy("outputs")
    assert found.tolist() == [[5.0], [5.0]]
