# SPDX-License-Identifier: MIT
"""A real node over gRPC: its answers, its port, its end; and what is shipped for it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from smls_node import embedded
from tests.integration.fleet import THREE, UNMEASURED
from tests.node.grpc_memory import HEALTH, MODELS, OIP, PREDICTION, stub
from tests.processes import LOCAL, ROOT, Running, run, running, until

PROTOS = ROOT / "node" / "smls_node" / "faces" / "grpc" / "protos"


@pytest.fixture(scope="module")
def node() -> Iterator[Running]:
    with running("smls-node", *LOCAL, *UNMEASURED, "--grpc-port", "0") as started:
        yield started


@pytest.fixture
def channel(node: Running) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(node.grpc_address) as found:
        yield found


def black(rows: int = 1) -> dict[str, Any]:
    pixels = np.zeros((rows, 32, 32, 3), np.float32)
    told = {"name": "input", "datatype": "FP32", "shape": pixels.shape}
    return {
        "model_name": "digits",
        "inputs": [told],
        "raw_input_contents": [pixels.tobytes()],
    }


def test_both_dialects_answer_alike(channel: grpc.Channel) -> None:
    raw = stub(channel, OIP, "ModelInfer")(black(3)).result()
    tensor = {
        "dtype": "DT_FLOAT",
        "tensor_shape": {"dim": [{"size": side} for side in (3, 32, 32, 3)]},
        "float_val": [0],
    }
    predicted = stub(channel, PREDICTION, "Predict")(
        {"model_spec": {"name": "digits"}, "inputs": {"input": tensor}}
    ).result()
    scores = np.frombuffer(raw.raw_output_contents[0], np.float32)
    assert scores.shape == (30,)
    assert np.allclose(scores, predicted.outputs["final_result"].float_val, atol=1e-6)


def test_an_image_is_classified(channel: grpc.Channel) -> None:
    feature = {"image": {"bytes_list": {"value": [THREE.read_bytes()]}}}
    given = {"example_list": {"examples": [{"features": {"feature": feature}}]}}
    found = stub(channel, PREDICTION, "Classify")(
        {"model_spec": {"name": "digits"}, "input": given}
    ).result()
    best = found.result.classifications[0].classes[0]
    labels = embedded.LABELS.read_text().split()
    assert best.label == "3"
    assert len(found.result.classifications[0].classes) == len(labels)


def test_a_taken_port_is_told_in_a_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run("smls-node", *LOCAL, *UNMEASURED, "--grpc-port", port)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.splitlines()[-1] == (
        f"smls-node: cannot listen on port {port} of 127.0.0.1 for gRPC: Address already in use; "
        "choose another with --grpc-port, or a free one with --grpc-port 0"
    )


def test_a_node_says_its_port_and_answers_what_it_has_before_it_ends() -> None:
    with (
        running("smls-registry", *LOCAL) as registry,
        running(
            "smls-node", *LOCAL, *UNMEASURED, "--registry", registry.url, "--grpc-port", "0"
        ) as node,
        grpc.insecure_channel(node.grpc_address) as channel,
    ):

        def listed() -> Any:
            with urlopen(f"{registry.url}v1/nodes", timeout=10) as answer:
                return json.load(answer)["nodes"]

        (record,) = until(listed)
        assert f"127.0.0.1:{record['grpc_port']}" == node.grpc_address
        assert "grpc" in record["protocols"]
        watch = channel.unary_stream(f"/{HEALTH}/Watch")(b"", timeout=60)
        assert next(watch) == b"\x08\x01"
        begin = stub(channel, OIP, "ModelInfer")
        assert begin(black()).result().outputs
        calls = [begin(black(8)) for _ in range(40)]
        calls[0].result()
        node.terminate()
        codes = {call.code() for call in calls}
        assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
        status, _, log = node.end()
    assert (status, "Traceback" in log) == (0, False)


@pytest.mark.skipif(find_spec("grpc_tools") is None, reason="grpcio-tools is not installed")
def test_what_is_shipped_is_what_the_protos_say(tmp_path: Path) -> None:
    out = tmp_path / "descriptors.pb"
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    subprocess.run([ROOT / "script" / "protos", out], check=True, env=environment, timeout=60)

    def files(path: Path) -> dict[str, Any]:
        found = FileDescriptorSet.FromString(path.read_bytes()).file
        return {each.name: each for each in found if not each.name.startswith("google/")}

    assert files(out) == files(PROTOS / "descriptors.pb")


@pytest.mark.skipif(shutil.which("grpcurl") is None, reason="grpcurl is not installed")
def test_grpcurl_finds_its_way(node: Running) -> None:
    listed = subprocess.run(
        ["grpcurl", "-plaintext", node.grpc_address, "list"],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert {OIP, PREDICTION, MODELS, HEALTH} <= set(listed.stdout.split())
