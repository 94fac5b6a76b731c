# SPDX-License-Identifier: MIT
"""A node that serves classes of users' own, as a process."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest

from smls_node import services
from smls_node.pymodel import StringCodec
from tests.integration.fleet import ask
from tests.integration.test_orphans import descendants, runs
from tests.node.grpc_memory import OIP, stub
from tests.processes import LOCAL, ROOT, Running, running, until

EXAMPLE = ROOT / "examples" / "document-similarity"

TALKS = """
import logging

class Talks:
    def load(self):
        logging.getLogger(__name__).info("logged while loading, {word}")

    def predict(self, x: int) -> int:
        return x

    def unload(self):
        print("printed while unloading, {word}")
        logging.getLogger(__name__).info("logged while unloading, {word}")
"""


def put(folder: Path, code: str, kind: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "model-settings.json").write_text(json.dumps({"implementation": f"code.{kind}"}))
    (folder / "code.py").write_text(code)


def test_the_example_answers_in_ones_own_process() -> None:
    similarity = services.get("doc-sim-model", path=EXAMPLE)
    near = similarity.run(["dolls and films", "a film of a doll"]).item()
    far = similarity.run(["dolls and films", "the atomic bomb"]).item()
    assert 0 <= far < near < similarity.run(["same", "same"]).item() < 1.001
    similarity.give_back()


def test_the_example_is_served_as_one_folder(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "similarity_model")
    (tmp_path / "similarity_model" / "settings.json").write_text('{"http_port": 1}')
    with running("smls-node", *LOCAL, tmp_path / "similarity_model") as node:
        (model,) = ask(node.url).json["models"]
        assert (model["name"], model["version"]) == ("doc-sim-model", "1")
        (line,) = re.findall(r"^curl .*", (EXAMPLE / "README.md").read_text(), re.MULTILINE)
        asked = line.replace("http://127.0.0.1:8501", node.url.rstrip("/"))
        answer = json.loads(subprocess.run(["sh", "-c", asked], capture_output=True).stdout)
        (output,) = answer["outputs"]
        assert (output["name"], output["shape"], output["datatype"]) == ("output-0", [1], "FP64")
        assert 0 < output["data"][0] < 1
        url = f"{node.url.rstrip('/')}/v2/models/doc-sim-model"
        (told,) = ask(url).json["inputs"]
        assert told == {"name": "docs", "datatype": "BYTES", "shape": [-1]}
        # As the guide's client sends it.
        docs = StringCodec.encode_input(name="docs", payload=["a b", "a b"], use_bytes=False)
        reply = ask(f"{url}/infer", json.dumps({"inputs": [docs.dict()]}).encode())
        assert reply.json["outputs"][0]["data"] == [pytest.approx(1.0)]
        docs.name = "texts"
        reply = ask(f"{url}/infer", json.dumps({"inputs": [docs.dict()]}).encode())
        assert reply.status == 400
        assert reply.json == {"error": "inputs: got 'texts', wanted docs: list[str]"}


def test_broken_ones_leave_the_others_serving_and_changed_ones_are_served_anew(
    tmp_path: Path,
) -> None:
    put(tmp_path / "talks", TALKS.format(word="once"), "Talks")
    put(tmp_path / "broken", "import nowhere_at_all", "Broken")
    put(tmp_path / "fails", "class Fails:\n    load = predict = lambda self: 1 // 0", "Fails")
    with running("smls-node", *LOCAL, "--models", tmp_path) as node:
        about = ask(node.url).json
        assert [each["name"] for each in about["models"]] == ["talks"]
        why = {each["name"]: each["why"] for each in about["absent"]}
        assert "import failed: ModuleNotFoundError: No module named 'nowhere" in why["broken"]
        assert "load failed: ZeroDivisionError" in why["fails"]
        assert "Traceback" not in json.dumps(about)
        put(tmp_path / "talks", TALKS.format(word="again"), "Talks")
        until(lambda: "logged while unloading, once" in node.log)
        (model,) = ask(node.url).json["models"]
        assert "loaded while others were served" in model["process"]
        status, printed, logged = node.stop()
    assert status == 0
    assert printed.splitlines() == [
        "printed while unloading, once",
        "printed while unloading, again",
    ]
    assert "logged while loading, once" in logged
    assert re.search(r"Traceback[^$]*code\.py[^$]*nowhere_at_all", logged)
    assert "ZeroDivisionError" in logged


TYPES = """
from mlserver import MLModel
from mlserver.codecs import decode_args

class Plain(MLModel):
    async def predict(self, payload):
        told = {each.name: each.parameters and each.parameters.content_type
                for each in payload.inputs}
        said = [told[each.name] for each in payload.inputs]
        said += [type(self.decode(each)).__name__ for each in payload.inputs]
        said += [payload.parameters and payload.parameters.content_type]
        said += [type(self.decode_request(payload)).__name__]
        return Args().encode(said)

class Args:
    @decode_args
    async def predict(self, x, blob: bytes) -> list[str]:
        return [repr(x), repr(blob)]

    def encode(self, said):
        from mlserver.codecs import StringCodec
        from mlserver.types import InferenceResponse
        return InferenceResponse(model_name="", outputs=[
            StringCodec.encode_output("output-0", [str(each) for each in said])])
"""


def test_content_types_reach_the_class_over_rest_and_grpc(tmp_path: Path) -> None:
    for kind in ("Plain", "Args"):
        put(tmp_path / kind.lower(), TYPES, kind)
    moment, blob = "2026-11-21T10:00:00", base64.b64encode(b"\xff").decode()
    inputs = [
        {"name": "x", "datatype": "BYTES", "shape": [1], "data": [moment],
         "parameters": {"content_type": "datetime"}},
        {"name": "blob", "datatype": "BYTES", "shape": [1], "data": [blob],
         "parameters": {"content_type": "base64"}},
    ]  # fmt: skip
    seen = ["datetime", "base64", "list", "list", "pd", "DataFrame"]
    wanted = {"plain": seen, "args": ["[datetime.datetime(2026, 11, 21, 10, 0)]", repr(b"\xff")]}
    with running("smls-node", *LOCAL, "--models", tmp_path, "--grpc-port", "0") as node:
        for name, said in wanted.items():
            asked = {"inputs": inputs, "parameters": {"content_type": "pd"}}
            reply = ask(f"{node.url}v2/models/{name}/infer", json.dumps(asked).encode())
            assert reply.json["outputs"][0]["data"] == said
        with grpc.insecure_channel(node.grpc_address) as channel:
            for name, said in wanted.items():
                reply = stub(channel, OIP, "ModelInfer")(
                    {
                        "model_name": name,
                        "parameters": {"content_type": {"string_param": "pd"}},
                        "inputs": [
                            {
                                "name": each["name"],
                                "datatype": "BYTES",
                                "shape": [1],
                                "parameters": {
                                    "content_type": {
                                        "string_param": each["parameters"]["content_type"]
                                    }
                                },
                                "contents": {"bytes_contents": [each["data"][0].encode()]},
                            }
                            for each in inputs
                        ],
                    }
                ).result()
                (output,) = reply.outputs
                assert [each.decode() for each in output.contents.bytes_contents] == said


HANGS = """
import ctypes
from pathlib import Path

class Hangs:
    def load(self):
        Path(__file__).with_name("hangs").write_text("now")
        # Called so, it keeps Python's lock: no other thread of its process runs.
        ctypes.PyDLL(None).sleep(600)

    def predict(self, x: int) -> int:
        return x
"""


def test_a_load_that_hangs_says_since_when_and_is_ended_by_unloading(tmp_path: Path) -> None:
    with running("smls-node", *LOCAL, "--models", tmp_path) as node:
        put(tmp_path / "hangs", HANGS, "Hangs")
        absent = until(lambda: [each for each in about(node) if each["state"] == "LOADING"])
        assert datetime.fromisoformat(absent[0]["since"]).tzinfo is UTC
        until(lambda: read(tmp_path / "hangs" / "hangs"))
        left = descendants(node.process.pid)
        assert ask(f"{node.url}readyz").status == 200
        unload = f"{node.url}v2/repository/models/hangs/unload"
        assert ask(unload, method="POST").status == 200
        assert [each["state"] for each in about(node)] == ["END"]
        until(lambda: not any(map(runs, left)))
        assert "its loading is given up" in node.log
        put(tmp_path / "talks", TALKS.format(word="later"), "Talks")
        until(lambda: [each["name"] for each in ask(node.url).json["models"]] == ["talks"])


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def about(node: Running) -> list[dict[str, str]]:
    """What the node says of the models that do not answer."""
    return list(ask(node.url).json["absent"])
