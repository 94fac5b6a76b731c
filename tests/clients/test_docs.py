# SPDX-License-Identifier: MIT
"""What docs/grpc.md and docs/tfserving.md show runs as it stands, but for the addresses."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from tests.processes import ROOT, Running

GRPC = (ROOT / "docs" / "grpc.md").read_text()

LINES = re.findall(r"^grpcurl -plaintext (.*)$", GRPC, re.MULTILINE)

CURLS = re.findall(r"^curl .*$", (ROOT / "docs" / "tfserving.md").read_text(), re.MULTILINE)


def test_the_program_for_tritons_client_runs(node: Running) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", GRPC, re.DOTALL)
    assert "127.0.0.1:8500" in program
    done = subprocess.run(
        [sys.executable, "-c", program.replace("127.0.0.1:8500", node.grpc_address)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    scores = re.findall(r"[\d.e+-]+", done.stdout)
    assert len(scores) == 10


def called(line: str, address: str) -> Any:
    """What grpcurl would show for its arguments: it knows no more than reflection tells it."""
    *options, method = shlex.split(line)
    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        if method == "list":
            return list(database.get_services())
        pool = DescriptorPool(database)
        service, name = method.split("/")
        found = pool.FindServiceByName(service).FindMethodByName(name)
        request = GetMessageClass(found.input_type)()
        if "-d" in options:
            json_format.ParseDict(json.loads(options[options.index("-d") + 1]), request)
        call = channel.unary_unary(f"/{method}", type(request).SerializeToString, bytes)
        answer = GetMessageClass(found.output_type).FromString(call(request, timeout=30))
        return json_format.MessageToDict(answer)


def test_a_client_that_knows_nothing_finds_its_way_by_reflection(node: Running) -> None:
    listed, told, health = (called(line, node.grpc_address) for line in LINES)
    assert {"inference.GRPCInferenceService", "tensorflow.serving.PredictionService"} <= {*listed}
    assert told["name"] == "digits"
    assert told["inputs"] == [
        {"name": "input", "datatype": "FP32", "shape": ["-1", "32", "32", "3"]}
    ]
    assert health == {"status": "SERVING"}


@pytest.mark.parametrize("line", CURLS)
def test_the_calls_of_tensorflow_serving_run(
    line: str, node: Running, tensorflow_models: Running
) -> None:
    where = node if "models/digits" in line else tensorflow_models
    done = subprocess.run(
        shlex.split(
            line.replace("curl ", "curl -sS --fail ").replace("127.0.0.1:8501", where.address)
        ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    if "predict" in line:
        assert answer == {"predictions": [2.5, 3.0, 4.5]}
    else:
        assert answer["model_version_status"][0]["state"] == "AVAILABLE"
