# SPDX-License-Identifier: MIT
"""A node that serves folders of models, which change while it serves them."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.fleet import THREE, UNMEASURED, ask, best, classify, listed
from tests.integration.graphs import write_constant
from tests.processes import LOCAL, Running, run, running, until

SWAPS = 6


def put(model: Path, version: int, scores: list[float], ballast: int = 0) -> Path:
    """A version that appears by a rename; its labels are its model's name, version and number."""
    draft = model.parent / f".{model.name}-{version}"
    draft.mkdir(parents=True)
    _, graph, _, labels = write_constant(draft, f"{model.name}-{version}", scores, ballast)
    Path(graph).rename(draft / "model.pb")
    Path(labels).rename(draft / "labels.txt")
    model.mkdir(exist_ok=True)
    return draft.rename(model / str(version))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("models")
    put(models / "colours", 1, [3, 1, 2])
    put(models / "shapes", 7, [1, 2])
    return models


@pytest.fixture(scope="module")
def node(folder: Path, registry: Running) -> Iterator[Running]:
    options = ("--models", folder, "--registry", registry.url, "--node-name", "folders")
    with running("smls-node", *LOCAL, *UNMEASURED, "--default-model", "shapes", *options) as node:
        yield node


@pytest.fixture(scope="module")
def registry() -> Iterator[Running]:
    with running("smls-registry", *LOCAL) as registry:
        yield registry


def answer(node: Running, **fields: str) -> Any:
    reply = classify(node.url, THREE.read_bytes(), **fields)
    assert reply.status == 200, reply.body
    return reply.json


def shown(node: Running) -> set[tuple[str, str, str]]:
    """Name, version and state of all that ``GET /`` shows."""
    about = ask(node.url).json
    return {
        (each["name"], each["version"], each["state"])
        for each in (*about["models"], *about["absent"])
    }


def announced(registry: Running) -> set[tuple[str, str, str]]:
    return {
        (each["name"], each["version"], each["state"])
        for node in listed(registry)
        for each in node["models"]
    }


@contextmanager
def load(node: Running, name: str) -> Iterator[list[Any]]:
    """Two clients that ask for ``name`` all the while; what they got, however bad."""
    got: list[Any] = []
    stopping = threading.Event()

    def go() -> None:
        while not stopping.is_set():
            reply = classify(node.url, THREE.read_bytes(), model=name)
            got.append(reply.json["version"] if reply.status == 200 else reply.body)

    clients = [threading.Thread(target=go) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        yield got
    finally:
        stopping.set()
        for client in clients:
            client.join()


def test_each_model_of_the_folder_is_served(node: Running, registry: Running) -> None:
    assert best(answer(node)) == "shapes-7-1"
    assert best(answer(node, model="colours", version="1")) == "colours-1-0"
    until(lambda: announced(registry) == shown(node))
    assert shown(node) == {("colours", "1", "AVAILABLE"), ("shapes", "7", "AVAILABLE")}


def test_a_version_that_appears_takes_over_and_nothing_is_lost(
    node: Running, registry: Running, folder: Path
) -> None:
    with load(node, "colours") as got, load(node, "shapes") as others:
        put(folder / "colours", 2, [1, 3, 2])
        until(lambda: "2" in got)
        # Copied slowly, in pieces further apart than two looks are, with a pause inside the graph.
        whole = put(folder.parent / "elsewhere", 10, [1, 2, 3])
        slow = folder / "colours" / "10"
        slow.mkdir()
        graph, pause = (whole / "model.pb").read_bytes(), threading.Event()
        shutil.copy(whole / "labels.txt", slow)
        with (slow / "model.pb").open("wb") as file:
            for piece in np.array_split(np.frombuffer(graph, np.uint8), 6):
                file.write(piece.tobytes())
                file.flush()
                pause.wait(0.5)
        until(lambda: "10" in got)
        until(lambda: shown(node) == {("colours", "10", "AVAILABLE"), ("shapes", "7", "AVAILABLE")})
    assert set(got) == {"1", "2", "10"}
    assert [*dict.fromkeys(got)] == ["1", "2", "10"]
    assert set(others) == {"7"}
    assert best(answer(node, model="colours")) == "elsewhere-10-2"
    until(lambda: announced(registry) == shown(node))
    assert "cannot be served" not in node.log


def test_a_broken_version_leaves_the_old_one_and_says_why(
    node: Running, registry: Running, folder: Path
) -> None:
    before, _, latest = max(
        (int(version), name, version) for name, version, _ in shown(node) if name == "colours"
    )
    bad = str(before + 1)
    broken = folder / "colours" / bad
    with load(node, "colours") as got:
        shutil.copytree(folder / "colours" / latest, folder / ".broken")
        (folder / ".broken" / "model.pb").write_bytes(b"\xff" * 1000)
        (folder / ".broken").rename(broken)
        until(lambda: ("colours", bad, "END") in shown(node))
        until(lambda: ("colours", bad, "END") in announced(registry))
    assert set(got) == {latest}
    (absent,) = ask(node.url).json["absent"]
    assert absent["why"].startswith(f"{broken}/model.pb is no frozen graph: ")
    assert f"model colours version {bad} cannot be served: {absent['why']}" in node.log
    assert "no frozen graph" in ask(node.url, Accept="text/html").body.decode()
    # It is tried again when its files have changed, and not before.
    mended = put(folder.parent / "mended", int(bad), [3, 1])
    (mended / "labels.txt").rename(broken / "labels.txt")
    (mended / "model.pb").rename(broken / "model.pb")
    until(lambda: answer(node, model="colours")["version"] == bad)
    assert best(answer(node, model="colours")) == f"mended-{bad}-0"
    assert node.log.count("cannot be served") == 1


def test_settings_labels_and_their_errors(node: Running, registry: Running, folder: Path) -> None:
    settings = folder / "shapes" / "smls.toml"
    put(folder / "shapes", 8, [3, 2])
    settings.write_text('versions = "all"\nversion_labels = {stable = 7, canary = 8}\n')
    until(lambda: len([each for each in shown(node) if each[0] == "shapes"]) == 2)
    until(lambda: ask(f"{node.url}").json["models"][-1]["version_labels"])
    assert best(answer(node, model="shapes", label="stable")) == "shapes-7-1"
    assert best(answer(node, model="shapes", label="canary")) == "shapes-8-0"
    until(
        lambda: (
            {
                (each["version"], *each["labels"])
                for each in listed(registry)[0]["models"]
                if each["name"] == "shapes"
            }
            == {("7", "stable"), ("8", "canary")}
        )
    )
    refused = classify(node.url, THREE.read_bytes(), model="shapes", label="beta")
    assert (refused.status, refused.code) == (404, "model_not_found")
    assert "got 'beta', wanted one of stable, canary" in refused.json["error"]["message"]
    settings.write_text("max_batch_sizes = 4\n")
    until(lambda: "did you mean max_batch_size?" in node.log)
    assert best(answer(node, model="shapes", version="8")) == "shapes-8-0"
    settings.unlink()
    until(
        lambda: (
            {each for each in shown(node) if each[0] == "shapes"} == {("shapes", "8", "AVAILABLE")}
        )
    )


def test_a_folder_that_goes_and_one_that_comes(
    node: Running, registry: Running, folder: Path
) -> None:
    put(folder / "sizes", 1, [2, 1])
    until(lambda: ("sizes", "1", "AVAILABLE") in announced(registry))
    assert best(answer(node, model="sizes")) == "sizes-1-0"
    (folder / "sizes").rename(folder / ".sizes")
    until(lambda: all(each[0] != "sizes" for each in shown(node) | announced(registry)))
    gone = classify(node.url, THREE.read_bytes(), model="sizes")
    assert (gone.status, gone.code) == (404, "model_not_found")


def test_memory_returns_after_each_swap(tmp_path: Path) -> None:
    """Two models at a time, whose weights are 16 MB each: TensorFlow has them more than once."""
    models = [tmp_path / name for name in ("a", "b")]
    resident = []
    for model in models:
        put(model, 1, [1, 2], ballast=4_000_000)
    with running("smls-node", *LOCAL, *UNMEASURED, "--models", tmp_path) as node:
        for version in range(2, SWAPS // len(models) + 2):
            for model in models:
                put(model, version, [1, 2], ballast=4_000_000)
            wanted = {(model.name, str(version), "AVAILABLE") for model in models}
            until(lambda wanted=wanted: shown(node) == wanted)
            resident.append(sum(map(resident_bytes, [node.process.pid, *children(node)])))
            for model in models:
                shutil.rmtree(model / str(version - 1))
        assert {answer(node, model=each.name)["version"] for each in models} == {str(version)}
        assert node.stop()[0] == 0
    print("RSS in MB after 2, 4 and 6 swaps:", [size // 10**6 for size in resident])
    assert max(resident[1:]) <= resident[0] * 1.1


def children(node: Running) -> list[int]:
    """The node's processes of models."""
    found = []
    for tasks in Path(f"/proc/{node.process.pid}/task").iterdir():
        found += map(int, (tasks / "children").read_text().split())
    return found


def resident_bytes(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    fields = Counter({line.split()[0]: int(line.split()[1]) for line in lines if "kB" in line})
    return fields["VmRSS:"] * 1024


def test_what_is_no_folder_of_models_is_told(tmp_path: Path) -> None:
    put(tmp_path / "colours", 1, [1, 2])
    for arguments, told in (
        (("--models", tmp_path / "absent"), "absent: there is no such folder"),
        ((tmp_path,), f"where it is a folder of models: --models {tmp_path}"),
    ):
        ended = run("smls-node", *LOCAL, *arguments)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert told in ended.stderr
        assert "Traceback" not in ended.stderr
