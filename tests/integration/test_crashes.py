# SPDX-License-Identifier: MIT
"""A node that serves on while the processes of its models are broken, killed, or out of memory."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from PIL import Image

from tests.integration.fleet import UNMEASURED, ask, classify
from tests.integration.graphs import write_constant, write_greedy, write_hanging
from tests.memory import Reply
from tests.processes import LOCAL, Running, running, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs what Linux has")

SPARE_BYTES = 300_000_000
"""What the process of a model may take beyond what it has: too little for what is asked of it."""

STEADY = """
class Steady:
    def predict(self, x: int) -> int:
        return x
"""

ADMITTED = """
import os
import time
from pathlib import Path

HERE = Path(__file__).parent

class Admitted:
    \"\"\"Is loaded once the file ``go`` is there, and cannot be while ``stop`` is.\"\"\"

    def load(self):
        (HERE / ".pid").write_text(str(os.getpid()))
        (HERE / ".pid").rename(HERE / "pid")
        while not (HERE / "go").exists():
            time.sleep(0.01)
        if (HERE / "stop").exists():
            raise OSError("its disk is away")

    def predict(self, x: int) -> int:
        return x + 1
"""

HANGS = """
import threading

class Hangs:
    def load(self):
        threading.Event().wait()

    def predict(self, x: int) -> int:
        return x
"""

GREEDY = f"""
import resource
from pathlib import Path

class Greedy:
    def predict(self, megabytes: int) -> int:
        taken = 1024 * int(Path("/proc/self/status").read_text().split("VmSize:")[1].split()[0])
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (taken + {SPARE_BYTES}, most))
        return len(bytearray(megabytes * 10**6))
"""


def picture(light: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (4, 4), (light,) * 3).save(file, "PNG")
    return file.getvalue()


BRIGHT, DARK = picture(255), picture(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    put_class(folder, STEADY, "Steady")
    return folder


@pytest.fixture(scope="module")
def node(folder: Path) -> Iterator[Running]:
    """A node with the steady model in its own process."""
    with running("smls-node", *LOCAL, *UNMEASURED, "--models", folder) as node:
        yield node


@pytest.fixture(autouse=True)
def others(node: Running) -> Iterator[None]:
    """The steady model answers after each test, too."""
    yield
    assert values(given(node, "steady", 1)) == [1]


def put_graph(folder: Path, options: tuple[str, ...], bytes_left: int | None = None) -> str:
    """Puts a graph there as a model of its name; of its file so many bytes are left."""
    _, graph, _, labels = options
    draft = folder / f".{Path(graph).stem}"
    draft.mkdir()
    (draft / "model.pb").write_bytes(Path(graph).read_bytes()[:bytes_left])
    shutil.copy(labels, draft / "labels.txt")
    return draft.rename(folder / Path(graph).stem).name


def put_class(folder: Path, code: str, kind: str) -> Path:
    """Puts a class of a user's own there."""
    draft = folder / f".{kind}"
    draft.mkdir()
    (draft / "model-settings.json").write_text(json.dumps({"implementation": f"code.{kind}"}))
    (draft / "code.py").write_text(code)
    return draft.rename(folder / kind.lower())


def told(node: Running, name: str) -> dict[str, Any]:
    """What ``GET /`` says of a model, nothing where it does not know it."""
    about = ask(node.url).json
    found = [each for each in (*about["models"], *about["absent"]) if each["name"] == name]
    return dict(found[0]) if found else {"state": ""}


def becomes(node: Running, name: str, state: str) -> dict[str, Any]:
    """What is told of a model once it is in that state."""
    until(lambda: told(node, name)["state"] == state)
    return told(node, name)


def process_of(node: Running, name: str) -> int:
    told_of = becomes(node, name, "AVAILABLE")["process"]
    assert "loaded while others were served" in told_of
    return int(told_of.split()[1])


def given(node: Running, name: str, number: int) -> Reply:
    """What a class answers to a number."""
    (spec,) = ask(f"{node.url}v2/models/{name}").json["inputs"]
    inputs = [{"name": spec["name"], "datatype": "INT64", "shape": [1], "data": [number]}]
    return ask(f"{node.url}v2/models/{name}/infer", json.dumps({"inputs": inputs}).encode())


def values(reply: Reply) -> list[int]:
    assert reply.status == 200, reply.body
    return list(reply.json["outputs"][0]["data"])


def test_a_fork_that_is_killed_in_a_run_fails_it_and_is_there_again(
    node: Running, folder: Path
) -> None:
    name = put_graph(folder, write_hanging(folder.parent, "hanging"))
    before = process_of(node, name)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(classify, node.url, BRIGHT, model=name)
        until(lambda: told(node, name)["load"]["in_flight"])
        os.kill(before, signal.SIGKILL)
        failed = asked.result()
    assert (failed.status, failed.code) == (500, "internal")
    assert "the process of the model was killed by SIGKILL" in failed.json["error"]["message"]
    assert process_of(node, name) != before
    assert classify(node.url, DARK, model=name).status == 200
    assert f"process {before} of its own for loaded while others were served was killed" in node.log


def test_what_is_cut_short_says_why(node: Running, folder: Path) -> None:
    whole = write_constant(folder.parent, "cut", [1, 2], ballast=1000)
    put_graph(folder, whole, bytes_left=3000)
    assert "model.pb is no frozen graph: " in becomes(node, "cut", "END")["why"]

    class Weights(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = tf.Variable(tf.random.normal([1000]))

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def serve(self, x: Any) -> Any:
            return {"y": x + tf.reduce_sum(self.weights)}

    saved = folder.parent / "saved"
    weights = Weights()
    tf.saved_model.save(weights, str(saved), signatures=weights.serve)
    (data,) = (saved / "variables").glob("*.data-*")
    data.write_bytes(data.read_bytes()[:2000])
    (folder / ".weights").mkdir()
    saved.rename(folder / ".weights" / "1")
    (folder / ".weights").rename(folder / "weights")
    why = becomes(node, "weights", "END")["why"]
    assert "is no whole SavedModel: " in why
    assert f"model weights version 1 cannot be served: {why}" in node.log


def test_a_process_that_is_killed_while_it_loads_says_so_and_is_loaded_on_demand(
    node: Running, folder: Path
) -> None:
    own = put_class(folder, ADMITTED, "Admitted")
    os.kill(int(until(lambda: read(own / "pid"))), signal.SIGKILL)
    why = becomes(node, "admitted", "END")["why"]
    assert why.startswith("the process in which the model was to be loaded was killed by SIGKILL")
    assert f"model admitted version 1 cannot be served: {why}" in node.log
    assert given_status(node, "admitted") == 404
    (own / "go").touch()
    assert ask(f"{node.url}v2/repository/models/admitted/load", method="POST").status == 200
    assert values(given(node, "admitted", 1)) == [2]


def test_what_cannot_be_loaded_again_is_tried_until_it_can(node: Running, folder: Path) -> None:
    own, before = folder / "admitted", process_of(node, "admitted")
    (own / "stop").touch()
    os.kill(before, signal.SIGKILL)
    until(lambda: "its disk is away" in told(node, "admitted")["process"])
    assert told(node, "admitted")["state"] == "LOADING"
    refused = given(node, "admitted", 1)
    assert refused.status == 500
    assert "its disk is away" in refused.json["error"]
    (own / "stop").unlink()
    assert process_of(node, "admitted") != before
    assert values(given(node, "admitted", 2)) == [3]


def test_a_run_without_enough_memory_fails_alone(node: Running, folder: Path) -> None:
    name = put_graph(folder, write_greedy(folder.parent, "greedy-graph", 1000))
    process = process_of(node, name)
    limits = (size_of(process) + SPARE_BYTES,) * 2
    resource.prlimit(process, resource.RLIMIT_AS, limits)
    assert classify(node.url, BRIGHT, model=name).status == 500
    assert "OOM when allocating tensor" in node.log
    assert classify(node.url, DARK, model=name).status == 200
    put_class(folder, GREEDY, "Greedy")
    process_of(node, "greedy")
    assert given(node, "greedy", 1000).status == 500
    assert "MemoryError" in node.log
    assert values(given(node, "greedy", 1)) == [1_000_000]


def test_a_model_that_hangs_at_the_start_is_told_of_and_keeps_nobody_from_stopping_the_node(
    tmp_path: Path,
) -> None:
    # Whoever reads the one waits for ever, and the other says so.
    os.mkfifo(tmp_path / "graph.pb")
    (tmp_path / "labels.txt").write_text("a\nb\n")
    graph = ("--graph", tmp_path / "graph.pb", "--labels", tmp_path / "labels.txt")
    named = (*UNMEASURED, *graph, "--name", "hanging")
    own = tmp_path / "models" / "hanging"
    own.mkdir(parents=True)
    (own / "model-settings.json").write_text('{"implementation": "code.Hangs"}')
    (own / "code.py").write_text(HANGS)
    for served in (named, ("--models", own.parent)):
        node = Running("smls-node", *LOCAL, *served)
        with closing(node):
            url = until(lambda node=node: re.search(r"listening on 127.0.0.1 port (\d+)", node.log))
            url = f"http://127.0.0.1:{url[1]}/"
            until(lambda node=node: "model hanging version 1: loading" in node.log)
            (absent,) = until(lambda url=url: ask(url).json["absent"])
            assert (absent["name"], absent["state"]) == ("hanging", "LOADING")
            assert datetime.fromisoformat(absent["since"]).tzinfo is UTC
            refused = ask(f"{url}readyz")
            assert (refused.status, refused.code) == (503, "overloaded")
            assert "still loading" in refused.json["error"]["message"]
            assert ask(f"{url}healthz").status == 200
            status, _, log = node.stop()
        assert status == 0
        assert "stopped while loading" in log


def given_status(node: Running, name: str) -> int:
    return ask(f"{node.url}v2/models/{name}").status


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def size_of(process: int) -> int:
    """The bytes that the process has mapped."""
    status = Path(f"/proc/{process}/status").read_text()
    return 1024 * int(status.partition("VmSize:")[2].split()[0])
