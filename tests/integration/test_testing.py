# SPDX-License-Identifier: MIT
"""The fakes of ``smls.testing`` beside a registry and a node that are real: to the same calls
they answer the same, errors and all."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from attrs import evolve

import smls
from smls.testing import FakeFleet, FakeModel
from tests.integration.fleet import UNMEASURED, names_at
from tests.integration.graphs import write_constant
from tests.node.memory import image
from tests.processes import LOCAL, ROOT, running, until

pytest.importorskip("tensorflow")

SCORES = {"flowers-0": 0.25, "flowers-1": 0.5, "flowers-2": 0.125, "flowers-3": 0.125}
"""What the real model gives, too, for any image."""

PIXELS = np.zeros((2, 4, 4, 3), np.float32)

FLOWER = {"sl": 5.1, "sw": 3.5, "pl": 1.4, "pw": 0.2}


def scores(content: bytes) -> dict[str, float]:
    if not content.startswith(b"\x89PNG"):
        raise smls.NotAnImage("no image")
    return SCORES


def rows(inputs: Any) -> dict[str, Any]:
    if inputs["input"].dtype != np.float32:
        raise smls.BadRequest(f"got {inputs['input'].dtype}, wanted float32")
    return {"final_result": np.array([[*SCORES.values()]] * len(inputs["input"]), np.float32)}


def sepal(row: dict[str, float]) -> int:
    if row.keys() != FLOWER.keys():
        raise smls.BadRequest(f"got {', '.join(row)}, wanted {', '.join(FLOWER)}")
    return 0


FAKES = (
    FakeModel("flowers", classify=scores, infer=rows),
    FakeModel("flowers", "2", classify=scores, infer=rows),
    FakeModel("iris", predict=sepal),
)

Calls = dict[str, Callable[[smls.BlockingClient], Any]]

ANSWERED: Calls = {
    "an image": lambda client: client.classify(image(), "flowers"),
    "the default model": lambda client: client.classify(image()),
    "a version": lambda client: client.classify(image(), "flowers", version=1),
    "fewer labels": lambda client: client.classify(image(), top=2),
    "arrays": lambda client: client.infer("flowers", {"input": PIXELS}),
    "an output": lambda client: client.infer("flowers", {"input": PIXELS}, ["final_result"]),
    "a version's arrays": lambda client: client.infer("flowers", {"input": PIXELS}, version=1),
    "a row": lambda client: client.predict(FLOWER, "iris"),
    "rows": lambda client: client.predict([FLOWER] * 3, "iris"),
    "the models": lambda client: client.models(),
    "the nodes of a model": lambda client: client.nodes("iris"),
    "the nodes of none": lambda client: client.nodes("fish"),
}

REFUSED: Calls = {
    "no image": lambda client: client.classify(b"no image"),
    "no such model": lambda client: client.classify(image(), "fish"),
    "no such version": lambda client: client.classify(image(), "flowers", version=7),
    "no such label": lambda client: client.classify(image(), "flowers", label="canary"),
    "no such output": lambda client: client.infer("flowers", {"input": PIXELS}, ["scores"]),
    "the wrong datatype": lambda client: client.infer("flowers", {"input": PIXELS.astype("f8")}),
    "arrays for no model": lambda client: client.infer("fish", {"input": PIXELS}),
    "an image for a table": lambda client: client.classify(image(), "iris"),
    "texts for a table": lambda client: client.embed("a text", "iris"),
    "a row that lacks a feature": lambda client: client.predict({"sl": 1.0}, "iris"),
}


@pytest.fixture(scope="module")
def clients(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, list[smls.BlockingClient]]]:
    """Clients of a real fleet and of a fake one, each by the registry and by the node."""
    folder = tmp_path_factory.mktemp("models")
    for version in ("1", "2"):
        (folder / version).mkdir()
    logits = [float(np.log(score)) for score in SCORES.values()]
    graphs = [
        (*write_constant(folder / version, "flowers", logits), "--version", version)
        for version in ("1", "2")
    ]
    spec = importlib.util.spec_from_file_location("iris", ROOT / "examples" / "iris.py")
    assert spec is not None
    assert spec.loader is not None
    iris = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(iris)
    iris.main(folder / "models")
    options = ("--models", folder / "models", "--default-model", "flowers", "--node-name", "one")
    with running("smls-registry", *LOCAL) as registry:
        given = ("--registry", registry.url, *options, *(each for one in graphs for each in one))
        with running("smls-node", *LOCAL, *UNMEASURED, *given) as node:
            until(lambda: names_at(registry) == {"one"})
            with (
                FakeFleet(*FAKES, nodes=["one"]) as fleet,
                smls.BlockingClient(registry.url) as listed,
                smls.BlockingClient(nodes=[node.address]) as named,
                fleet.client() as fake_listed,
                smls.BlockingClient(nodes=[fleet.nodes[0].address]) as fake_named,
            ):
                yield {"listed": [listed, fake_listed], "named": [named, fake_named]}


@pytest.mark.parametrize("by", ["listed", "named"])
@pytest.mark.parametrize("call", [*ANSWERED, *REFUSED])
def test_a_fake_answers_as_a_real_one(
    clients: dict[str, list[smls.BlockingClient]], call: str, by: str
) -> None:
    if call in REFUSED:
        real, fake = (refusal(client, REFUSED[call]) for client in clients[by])
    else:
        real, fake = (plain(ANSWERED[call](client)) for client in clients[by])
    assert fake == real


def refusal(client: smls.BlockingClient, call: Callable[[smls.BlockingClient], Any]) -> Any:
    """The error that a call raises, less its message."""
    with pytest.raises(smls.SmlsError) as caught:
        call(client)
    return type(caught.value), caught.value.code, caught.value.retry_after_seconds


def plain(found: Any) -> Any:
    """What a call brings back, less what is another at each node."""
    if isinstance(found, smls.Classification):
        told = tuple(evolve(each, score=round(each.score, 5)) for each in found.predictions)
        return evolve(found, address="", predictions=told)
    if isinstance(found, smls.ServedModel):
        return evolve(found, nodes=len(found.nodes))
    if isinstance(found, smls.NodeRecord):
        return found.name, [(each.name, each.version, each.state) for each in found.models]
    if isinstance(found, tuple):
        return tuple(map(plain, found))
    if isinstance(found, list):
        return [(type(each), each) for each in found]
    return (
        type(found),
        found.model,
        found.version,
        {
            name: (array.dtype, array.round(5).tolist(), array.flags.writeable)
            for name, array in found.outputs.items()
        },
    )
