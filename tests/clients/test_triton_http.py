# SPDX-License-Identifier: MIT
"""``tritonclient.http``, sync and asyncio, as it is installed and with its default settings."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from PIL import Image
from tritonclient.utils import InferenceServerException

import smls
from smls_node.examples import serialized
from tests.processes import ROOT, Running

DIGITS = ("three", "seven")


@pytest.fixture
def client(node: Running) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(node.address) as client:
        yield client


def pixels() -> np.ndarray[Any, np.dtype[np.float32]]:
    """float32[2, 32, 32, 3]: a three and a seven."""
    images = []
    for name in DIGITS:
        path = ROOT / "examples" / "digits" / f"{name}.jpg"
        image = Image.open(path).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)
        images.append(np.asarray(image, np.float32) / 255)
    return np.stack(images)


def inputs(array: np.ndarray[Any, Any], datatype: str = "FP32", **more: Any) -> list[Any]:
    given = triton.InferInput("input", list(array.shape), datatype)
    given.set_data_from_numpy(array, **more)
    return [given]


def test_the_server_is_alive_and_ready(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "1")
    assert not client.is_model_ready("digits", "2")
    assert not client.is_model_ready("other")


def test_the_metadata(client: Any) -> None:
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    model = client.get_model_metadata("digits")
    assert model["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 32, 32, 3]}]
    assert model["versions"] == ["1"]
    assert model["platform"] == "tensorflow_graphdef"
    assert "parameters" not in model


def test_the_metadata_of_several_signatures_and_versions(tensorflow_models: Running) -> None:
    with triton.InferenceServerClient(tensorflow_models.address) as client:
        first = client.get_model_metadata("half_plus_two", "7")
        assert (first["platform"], first["versions"]) == ("tensorflow_savedmodel", ["7", "123"])
        assert first["inputs"][0]["name"] == "x"
        query = {"signature_name": "regress_x_to_y2"}
        assert query["signature_name"] in first["parameters"]["signature_names"]
        other = client.get_model_metadata("half_plus_two", query_params=query)
        assert other["inputs"] == [{"name": "inputs", "datatype": "BYTES", "shape": [-1]}]


def test_the_repository(client: Any) -> None:
    index = client.get_model_repository_index()
    assert index == [{"name": "digits", "version": "1", "state": "READY", "reason": ""}]
    for call in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException, match="on demand") as caught:
            call("digits")
        assert caught.value.status() == "501"


def test_infer_with_the_default_settings(client: Any) -> None:
    result = client.infer("digits", inputs(pixels()))
    scores = result.as_numpy("final_result")
    assert scores.shape == (2, 10)
    assert scores.argmax(axis=1).tolist() == [3, 7]
    assert result.get_response()["model_name"] == "digits"


@pytest.mark.parametrize("binary_input", [True, False])
@pytest.mark.parametrize("binary_output", [True, False])
def test_json_and_bytes_say_the_same(client: Any, binary_input: bool, binary_output: bool) -> None:
    wanted = triton.InferRequestedOutput("final_result", binary_data=binary_output)
    given = inputs(pixels(), binary_data=binary_input)
    result = client.infer(
        "digits", given, outputs=[wanted], request_id="7", priority=1, timeout=5_000_000
    )
    other = client.infer("digits", inputs(pixels())).as_numpy("final_result")
    np.testing.assert_allclose(result.as_numpy("final_result"), other, rtol=1e-5)
    assert result.get_response()["id"] == "7"
    assert ("data" in result.get_output("final_result")) != binary_output


def test_requests_that_are_sent_at_once(node: Running) -> None:
    with triton.InferenceServerClient(node.address, concurrency=8) as client:
        asked = [client.async_infer("digits", inputs(pixels())) for _ in range(40)]
        for each in asked:
            scores = each.get_result().as_numpy("final_result")
            assert scores.argmax(axis=1).tolist() == [3, 7]


def test_asyncio(node: Running) -> None:
    async def infer() -> None:
        async with triton_aio.InferenceServerClient(node.address) as client:
            assert await client.is_server_ready()
            assert (await client.get_model_metadata("digits"))["name"] == "digits"
            asked = [client.infer("digits", inputs(pixels())) for _ in range(8)]
            for result in await asyncio.gather(*asked):
                assert result.as_numpy("final_result").argmax(axis=1).tolist() == [3, 7]
            with pytest.raises(InferenceServerException, match="other"):
                await client.infer("other", inputs(pixels()))

    asyncio.run(infer())


@pytest.mark.parametrize(
    ("model", "given", "status", "told"),
    [
        ("other", inputs(pixels()), "404", "'other'"),
        ("digits", inputs(pixels()[0]), "400", r"FP32\[32, 32, 3\]"),
        ("digits", inputs(pixels().astype(np.float64), "FP64"), "400", "FP64"),
        ("digits", inputs(pixels().astype(np.float16), "FP16"), "400", "FP16"),
        ("digits", inputs(np.array([b"x"], np.object_), "BYTES"), "400", "BYTES"),
        ("digits", inputs(pixels()) * 2, "400", "twice"),
        ("digits", [], "400", "no 'input'"),
    ],
)
def test_errors_are_told(client: Any, model: str, given: Any, status: str, told: str) -> None:
    with pytest.raises(InferenceServerException, match=told) as caught:
        client.infer(model, given)
    assert caught.value.status() == status


def test_our_own_client_gets_the_same(node: Running, client: Any) -> None:
    scores = client.infer("digits", inputs(pixels())).as_numpy("final_result")
    with smls.BlockingClient(nodes=[node.address]) as own:
        found = own.infer("digits", {"input": pixels()})
    np.testing.assert_allclose(found.outputs["final_result"], scores, rtol=1e-5)


def test_another_signature_is_asked_for_by_its_name(tensorflow_models: Running) -> None:
    example = serialized({"x": [4.0]})
    given = triton.InferInput("inputs", [2], "BYTES")
    given.set_data_from_numpy(np.array([example, example], np.object_))
    more = {"parameters": {"signature_name": "regress_x_to_y2"}, "model_version": "7"}
    with triton.InferenceServerClient(tensorflow_models.address) as client:
        found = client.infer("half_plus_two", [given], **more).as_numpy("outputs")
    assert found.tolist() == [[5.0], [5.0]]
    with smls.BlockingClient(nodes=[tensorflow_models.address]) as own:
        asked = own.infer(
            "half_plus_two",
            {"inputs": np.array([example], np.object_)},
            version=7,
            parameters={"signature_name": "regress_x_to_y2"},
        )
    assert asked.outputs["outputs"].tolist() == [[5.0]]


@pytest.mark.parametrize("packing", ["gzip", "deflate"])
def test_bodies_go_packed_both_ways(tensorflow_models: Running, packing: str) -> None:
    given = triton.InferInput("x", [50_000, 1], "FP32")
    given.set_data_from_numpy(np.ones((50_000, 1), np.float32))
    packed = {"request_compression_algorithm": packing, "response_compression_algorithm": packing}
    with triton.InferenceServerClient(tensorflow_models.address) as client:
        for binary in (True, False):
            wanted = triton.InferRequestedOutput("y", binary_data=binary)
            found = client.infer("half_plus_two", [given], outputs=[wanted], **packed)
            assert found.as_numpy("y").tolist() == [[2.5]] * 50_000
