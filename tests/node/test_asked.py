# SPDX-License-Identifier: MIT
"""Nodes that turn texts into vectors and predict from features, asked by the library and by the
command over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import smls
from smls import aio
from smls.errors import BadRequest, DeadlineExceeded, ModelNotFound
from smls.tensors import Tensors
from tests.node.listening import Listening
from tests.node.memory import model
from tests.node.test_natural import MATRIX, Lengths
from tests.processes import run


class Counted(Lengths):
    """Counts its texts; those of a second version have a third number."""

    def __init__(self, more: tuple[float, ...] = ()) -> None:
        super().__init__()
        self.texts = 0
        self._more = more

    def infer(self, inputs: Tensors, signature: str, parameters: Any) -> Tensors:
        self.texts += len(inputs["text"])
        found = super().infer(inputs, signature, parameters)["v"]
        return {"v": found + np.array(self._more or (0, 0), np.float32)}


COUNTED = Counted(), Counted()
SECOND = Counted((100, 0))


@pytest.fixture(scope="module")
def fleet() -> Iterator[Listening]:
    nodes = [(model("lengths", runtime=each), model("tree", runtime=MATRIX)) for each in COUNTED]
    nodes[0] += (model("lengths", "2", SECOND),)
    with Listening(*nodes, labels={"2": "canary"}) as fleet:
        yield fleet


def test_texts_become_vectors_on_every_node(fleet: Listening) -> None:
    before = [each.texts for each in COUNTED]
    with smls.BlockingClient(fleet.registry.url, balancer="round-robin") as client:
        for _ in range(4):
            found = client.embed(["Hello world!", "é"], model="lengths", version="1")
            assert found == [[12.0, 2.0], [2.0, 1.0]]
        assert client.embed("a b", "lengths", version=1) == [[3.0, 2.0]]
        assert client.embed(["a b"], "lengths", label="canary") == [[103.0, 2.0]]
        calls = [client.submit_embed([f"{'a' * n}"], "lengths", key="k") for n in range(1, 9)]
        assert [each.result()[0][0] % 100 for each in calls] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert all(each.texts >= told + 4 for each, told in zip(COUNTED, before, strict=True))


def test_many_texts_in_one_call(fleet: Listening) -> None:
    texts = [f"{'x' * (n % 7)} y" for n in range(20_000)]
    with smls.BlockingClient(nodes=fleet.addresses) as client:
        found = client.embed(texts, "lengths", version="1")
    assert [vector[0] for vector in found] == [len(text) for text in texts]


def test_features_become_predictions(fleet: Listening) -> None:
    with smls.BlockingClient(nodes=["127.0.0.1:9", *fleet.addresses]) as client:
        for _ in range(4):  # whoever is gone is passed over
            assert client.predict({"a": 2.0, "b": 1}, model="tree") == [12]
        rows = [{"a": np.float64(2), "b": np.int64(1)}, {"b": 3, "a": 4}]
        assert client.predict(rows, "tree") == [12, 34]
        assert client.submit_predict(iter(rows), "tree", timeout=20).result() == [12, 34]


def test_what_is_wrong_is_told_as_the_node_tells_it(fleet: Listening) -> None:
    with smls.BlockingClient(nodes=fleet.addresses) as client:
        with pytest.raises(BadRequest, match="features: got no 'b', wanted a, b"):
            client.predict({"a": 2.0}, "tree")
        with pytest.raises(BadRequest, match="model tree takes no texts"):
            client.embed("a", "tree")
        with pytest.raises(BadRequest, match="wanted a list of texts"):
            client.predict({"a": 1}, "lengths", version="1")
        with pytest.raises(ModelNotFound, match="other"):
            client.embed("a", "other")
        with pytest.raises(BadRequest, match="text 1: got 7"):
            client.embed([7], "tree")  # type: ignore[list-item]
        with pytest.raises(BadRequest, match="version '1' and label 'canary'"):
            client.predict({}, "tree", version="1", label="canary")
        with pytest.raises(DeadlineExceeded):
            client.embed("a", "lengths", version="1", timeout=1e-9)
    with pytest.raises(smls.ClientClosed):
        client.embed("a")


def test_asyncio(fleet: Listening) -> None:
    async def program() -> None:
        async with aio.Client(fleet.registry.url) as client:
            calls = [client.embed([f"{n}"], "lengths", version="1") for n in range(10)]
            assert await asyncio.gather(*calls) == [[[1.0, 1.0]]] * 10
            assert await client.predict([{"a": 1, "b": 1}] * 2, "tree") == [11, 11]

    asyncio.run(program())


def test_the_command_embeds(fleet: Listening) -> None:
    asked = ("smls-client", "--registry", fleet.registry.url, "embed", "--model", "lengths")
    asked += ("--model-version", "1")
    done = run(*asked, "Hello world!", "a")
    assert (done.returncode, done.stdout, done.stderr) == (0, "12.0 2.0\n1.0 1.0\n", "")
    lines = [f"{'a' * (n % 5)} é" for n in range(100)]
    lines[7] = ""
    done = run(*asked, "--json", "--batch-size", "9", "-", text="\n".join(lines) + "\n")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (0, "")
    assert [each["text"] for each in found] == lines
    assert [each["vector"][0] for each in found] == [len(line.encode()) for line in lines]


def test_the_command_predicts(fleet: Listening, tmp_path: Path) -> None:
    asked = ("smls-client", "--node", fleet.addresses[0], "predict", "--model", "tree")
    row, listed = '{"a": 2.0, "b": 1}', '[{"a": 2, "b": 1}, {"a": 4, "b": 3}]'
    done = run(*asked, row)
    assert (done.returncode, done.stdout, done.stderr) == (0, "12\n", "")
    (tmp_path / "rows.json").write_text(listed)
    assert run(*asked, tmp_path / "rows.json").stdout == "12\n34\n"
    lines = "".join(f'{{"a": {n}, "b": 1}}\n' for n in range(50))
    assert run(*asked, "-", text=lines).stdout == "".join(f"{10 + n}\n" for n in range(50))
    done = run(*asked, "--json", "--batch-size", "1", "-", text=listed)
    assert json.loads(done.stdout.splitlines()[1]) == {"row": {"a": 4, "b": 3}, "prediction": 34}


@pytest.mark.parametrize(
    ("command", "given", "text", "told"),
    [
        ("predict", "none.json", "", "none.json: No such file"),
        ("predict", "{", "", "rows: got neither JSON nor an object a line"),
        ("predict", "-", '{"a": 1}\n{', "-: got neither JSON nor an object a line"),
        ("predict", "[]", "", "wanted an object of features"),
        ("predict", "-", "[1, 2]", "wanted an object of features"),
        ("predict", '{"a": 1}', "", "features: got no 'b', wanted a, b"),
        ("embed", "a", "", "model tree takes no texts"),
    ],
)
def test_the_command_tells_what_is_wrong(
    fleet: Listening, command: str, given: str, text: str, told: str
) -> None:
    node = ("--node", fleet.addresses[1])
    done = run("smls-client", *node, command, "--model", "tree", given, text=text)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("smls-client: ")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_what_came_before_a_failure_is_shown(fleet: Listening) -> None:
    rows = '{"a": 1, "b": 1}\n{"a": 2}\n{"a": 3, "b": 1}\n'
    asked = ("--node", fleet.addresses[0], "predict", "--model", "tree", "--batch-size", "1")
    done = run("smls-client", *asked, "-", text=rows)
    assert (done.returncode, done.stdout) == (1, "11\n")
    assert "features: got no 'b'" in done.stderr
