# SPDX-License-Identifier: MIT
"""A node that serves classes of users' own, as a process."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from smls_node import services
from smls_node.pymodel import StringCodec
from tests.integration.fleet import ask
from tests.processes import LOCAL, ROOT, running, until

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
