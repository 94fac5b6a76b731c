# SPDX-License-Identifier: MIT
"""The fakes that ship; ``tests/integration/test_testing.py`` asks real ones the same."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from twisted.internet import reactor
from twisted.trial.unittest import TestCase

import smls
from smls import testing
from smls.testing import Asked, FakeFleet, FakeModel, fail, hang, late, reset, respond

IMAGE = b"any bytes"

MODELS = (
    FakeModel("flowers", classify={"rose": 0.1, "daisy": 0.9}),
    FakeModel("flowers", 10, ["canary"], classify=lambda image: {"bytes": len(image)}),
    FakeModel("encoder", embed=lambda text: (len(text), np.float32(0.5), float("nan"))),
    FakeModel("iris", predict=lambda row: {"kind": row["petal"]}),
    FakeModel("twice", infer=lambda inputs: {"y": inputs["x"] * 2, "z": [1]}),
)


@pytest.fixture
def fleet() -> Iterator[FakeFleet]:
    with FakeFleet(*MODELS, nodes=["a", "b"]) as fleet:
        yield fleet


@pytest.fixture
def client(fleet: FakeFleet) -> Iterator[smls.BlockingClient]:
    with fleet.client() as client:
        yield client


def test_the_names_are_pinned() -> None:
    assert testing.__all__ == sorted(testing.__all__)
    for name in testing.__all__:
        assert getattr(testing, name) is not None


def test_each_call_is_answered_as_it_was_told_and_remembered(
    fleet: FakeFleet, client: smls.BlockingClient
) -> None:
    found = client.classify(IMAGE, "flowers", top=1, version=1)
    assert (found.model, found.version) == ("flowers", "1")
    assert found.predictions == (smls.Prediction("daisy", 0.9),)
    (latest,) = client.classify(IMAGE).predictions
    assert latest == smls.Prediction("bytes", len(IMAGE))
    assert client.classify(IMAGE, label="canary").version == "10"
    first, second = client.embed(["text", ""], "encoder")
    assert (first[:2], second[:2]) == ([4.0, 0.5], [0.0, 0.5])
    assert np.isnan(first[2])
    assert client.predict({"petal": 2}, "iris") == [{"kind": 2}]
    tensors = client.infer("twice", {"x": np.arange(3, dtype=np.int16)}, ["y"])
    assert list(tensors.outputs) == ["y"]
    assert (tensors.outputs["y"].dtype, tensors.outputs["y"].tolist()) == (np.int16, [0, 2, 4])
    assert [(each.call, each.model, each.version) for each in fleet.calls] == [
        ("classify", "flowers", "1"),
        ("classify", None, None),
        ("classify", "flowers", "10"),
        ("embed", "encoder", None),
        ("predict", "iris", None),
        ("infer", "twice", None),
    ]
    assert fleet.calls[0] == Asked(found.node, "classify", "flowers", "1", 1, IMAGE)
    image, _, _, texts, rows, arrays = (each.inputs for each in fleet.calls)
    assert (image, texts, rows) == (IMAGE, ["text", ""], [{"petal": 2}])
    assert arrays["x"].tolist() == [0, 1, 2]


def test_nodes_take_turns_and_their_models_are_listed(
    fleet: FakeFleet, client: smls.BlockingClient
) -> None:
    turns = [client.classify(IMAGE).node for _ in range(4)]
    assert turns in (["a", "b"] * 2, ["b", "a"] * 2)
    listed = [(each.name, each.version, each.labels) for each in client.models()]
    assert listed[1:3] == [("flowers", "1", ()), ("flowers", "10", ("canary",))]
    with smls.BlockingClient(nodes=[node.address for node in fleet.nodes]) as direct:
        assert [each.name for each in direct.models()] == [each.name for each in client.models()]
    with smls.BlockingClient(fleet.url, cache=False, balancer="weighted") as own:
        assert {node.name for node in own.nodes("iris")} == {"a", "b"}


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("overloaded", smls.Overloaded),
        ("internal", smls.NodeFault),
        ("model_not_found", smls.ModelNotFound),
        ("broken_image", smls.BrokenImage),
    ],
)
def test_a_node_fails_by_code(
    fleet: FakeFleet, client: smls.BlockingClient, code: str, kind: type[smls.SmlsError]
) -> None:
    bad, good = fleet.nodes
    bad.behaviour = fail(code, "so it is", retry_after_seconds=2.5)
    if not issubclass(kind, smls.errors.BadImage):  # final: others would say the same
        assert {client.classify(IMAGE).node for _ in range(3)} == {"b"}
    good.behaviour = bad.behaviour
    with pytest.raises(kind, match="so it is") as caught:
        client.classify(IMAGE)
    if kind is smls.Overloaded:
        assert caught.value.retry_after_seconds == 3
    bad.behaviour = bad.answer
    with smls.BlockingClient(nodes=[bad.address]) as another:
        assert another.classify(IMAGE).node == "a"


def test_errors_of_the_open_inference_protocol_are_a_message(
    fleet: FakeFleet, client: smls.BlockingClient
) -> None:
    for node in fleet.nodes:
        node.behaviour = fail("bad_request", "the wrong shape")
    with pytest.raises(smls.BadRequest, match="the wrong shape"):
        client.infer("twice", {"x": [1]})


def test_nodes_hang_reset_and_are_late(fleet: FakeFleet) -> None:
    bad, good = fleet.nodes
    with fleet.client(timeout=30.0) as client:
        bad.behaviour = reset
        assert {client.classify(IMAGE).node for _ in range(4)} == {"b"}
    good.behaviour = late(0.001)
    bad.behaviour = hang
    with smls.BlockingClient(nodes=[good.address]) as client:
        assert client.classify(IMAGE).node == "b"
    with (
        smls.BlockingClient(nodes=[bad.address]) as client,
        pytest.raises(smls.DeadlineExceeded),
    ):
        client.classify(IMAGE, timeout=0.02)
    good.behaviour = late(60)
    with (
        smls.BlockingClient(nodes=[good.address]) as client,
        pytest.raises(smls.DeadlineExceeded),
    ):
        client.classify(IMAGE, timeout=0.02)
    fleet.call(good.open_at_most, 0)


def test_nodes_die_come_back_and_join(fleet: FakeFleet, client: smls.BlockingClient) -> None:
    a, _ = fleet.nodes
    former = {node.id for node in client.nodes()}
    fleet.kill(a)
    assert {client.classify(IMAGE).node for _ in range(4)} == {"b"}
    until(client, {"b"})
    fleet.restart(a)
    until(client, {"a", "b"})
    assert {node.id for node in client.nodes()} != former
    assert {client.classify(IMAGE).node for _ in range(4)} == {"a", "b"}
    fleet.kill(a, noticed=False)
    assert {client.classify(IMAGE).node for _ in range(4)} == {"b"}
    fleet.add("c", FakeModel("birds", classify={"crow": 1}))
    until(client, {"a", "b", "c"})
    assert client.classify(IMAGE, "birds").node == "c"


def test_the_registry_dies_and_comes_back(fleet: FakeFleet, client: smls.BlockingClient) -> None:
    client.classify(IMAGE)
    fleet.kill(fleet.nodes[0])
    fleet.kill(fleet.registry)
    assert client.classify(IMAGE).node == "b"
    with fleet.client() as late_comer, pytest.raises(smls.RegistryUnavailable):
        late_comer.classify(IMAGE)
    fleet.restart(fleet.registry)
    with fleet.client() as late_comer:
        assert {node.name for node in late_comer.nodes()} == {"b"}


def test_a_load_report_reaches_the_policy(fleet: FakeFleet) -> None:
    full, free = fleet.nodes
    # Longer than any pause of this process could make the free one late.
    full.load = smls.LoadReport(99, 90, 20_000.0, 30.0, 2.0, 32, 1)
    free.load = smls.LoadReport(0, 0, 0.0, 30.0, 2.0, 32, 1)
    with fleet.client() as client:
        while {call.node for call in fleet.calls} != {"a", "b"}:
            client.classify(IMAGE)
        assert {client.classify(IMAGE).node for _ in range(9)} == {"b"}


def test_how_many_rows_a_call_has_reaches_the_policy(fleet: FakeFleet) -> None:
    class Counting(smls.RoundRobin):
        def pick(self, nodes: Any, want: smls.Want, now: float) -> smls.NodeRecord:
            seen.append(want.rows)
            return super().pick(nodes, want, now)

    seen: list[int] = []
    with fleet.client(balancer=Counting()) as client:
        client.classify(IMAGE)
        client.embed(["a", "b", "c"], "encoder")
        client.predict([{"petal": 1}, {"petal": 2}], "iris")
        client.infer("twice", {"x": np.zeros((32, 2))})
    assert seen == [1, 3, 2, 32]


def test_what_an_answer_raises_is_told() -> None:
    def refuse(image: bytes) -> dict[str, float]:
        raise smls.NotAnImage("this is no image")

    broken = FakeModel("broken", predict=lambda row: row["none"])
    with FakeFleet(FakeModel("strict", classify=refuse), broken) as fleet, fleet.client() as client:
        with pytest.raises(smls.NotAnImage, match="this is no image"):
            client.classify(IMAGE)
        with pytest.raises(smls.NodeFault, match="the fake's answer raised KeyError"):
            client.predict({"petal": 1}, "broken")


def test_what_it_cannot_do_is_told(fleet: FakeFleet, client: smls.BlockingClient) -> None:
    with pytest.raises(smls.BadRequest, match="model iris: got a call of classify"):
        client.classify(IMAGE, "iris")
    with pytest.raises(smls.NoLiveNodes, match="'fish'"):
        client.classify(IMAGE, "fish")
    with smls.BlockingClient(nodes=[fleet.nodes[0].address]) as direct:
        with pytest.raises(smls.ModelNotFound, match="got 'fish', wanted one of flowers, encoder"):
            direct.classify(IMAGE, "fish")
        with pytest.raises(smls.ModelNotFound, match="version: got '3', wanted one of 1, 10"):
            direct.classify(IMAGE, "flowers", version=3)
    with pytest.raises(smls.BadRequest, match="outputs: got 'q', wanted y, z"):
        client.infer("twice", {"x": [1]}, ["q"])
    with pytest.raises(smls.BadRequest, match="code: got 'full', wanted one of bad_request"):
        fail("full")
    with pytest.raises(smls.BadRecord):
        FakeModel("no name")
    fleet.nodes[0].behaviour = lambda request: respond(request, 200, told(fleet))
    with (
        smls.BlockingClient(nodes=[fleet.nodes[0].address]) as direct,
        pytest.raises(smls.NodeFault, match="called by an answer or a behaviour"),
    ):
        direct.classify(IMAGE)


def told(fleet: FakeFleet) -> str:
    """What a fleet says to a call from its own thread, which would wait for itself."""
    with pytest.raises(RuntimeError) as caught:
        fleet.kill(fleet.registry)
    return str(caught.value)


def test_it_is_there_within_with_and_leaves_nothing() -> None:
    fleet = FakeFleet(*MODELS)
    with pytest.raises(RuntimeError, match="from 'with' on"):
        fleet.kill(fleet.nodes[0])
    for _ in range(3):
        with fleet, fleet.client() as client:
            client.classify(IMAGE)
            fleet.nodes[0].behaviour = hang
            call = client.submit(IMAGE)
        with pytest.raises(smls.ClientClosed):
            call.result()
        fleet.nodes[0].behaviour = fleet.nodes[0].answer
        before, now = locals().get("now"), len(os.listdir("/proc/self/fd"))
    assert now == before
    assert "smls fake fleet" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(RuntimeError):
        fleet.restart(fleet.nodes[0])


def test_asyncio(fleet: FakeFleet) -> None:
    async def program() -> set[str]:
        async with fleet.client(smls.aio.Client) as client:
            calls = await asyncio.gather(*(client.classify(IMAGE) for _ in range(10)))
            fleet.kill(fleet.nodes[0])
            assert (await client.classify(IMAGE)).node == "b"
            return {each.node for each in calls}

    assert asyncio.run(program()) == {"a", "b"}


class Twisted(TestCase):
    timeout = 20

    async def test_in_a_program_of_twisted(self) -> None:
        fleet = self.enterContext(FakeFleet(*MODELS))
        async with fleet.client(smls.Client, reactor=reactor) as client:
            assert (await client.classify(IMAGE)).node == "node-1"
            fleet.nodes[0].behaviour = fail("internal")
            await self.assertFailure(client.classify(IMAGE), smls.NodeFault)


def test_it_installs_no_reactor_and_keeps_nothing_on_disk(tmp_path: object) -> None:
    program = (
        "import smls, sys\n"
        "model = smls.testing.FakeModel('m', classify={'a': 1})\n"
        "with smls.testing.FakeFleet(model) as fleet, fleet.client() as client:\n"
        "    assert client.classify(b'').predictions[0].label == 'a'\n"
        "assert not {'twisted.internet.reactor', 'numpy', 'klein'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert os.listdir(str(tmp_path)) == []


def until(client: smls.BlockingClient, names: set[str]) -> None:
    """Waits until the client has heard that these nodes are there."""
    while {node.name for node in client.nodes()} != names:
        pass
