# SPDX-License-Identifier: MIT
"""The library and the command give nodes named tensors, balanced as images are."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

import smls
from smls import aio
from smls.errors import BadRequest, ModelNotFound
from tests.integration.fleet import Fleet
from tests.processes import run

PIXELS = np.random.default_rng(0).random((3, 32, 32, 3), np.float32)


def test_every_node_gives_the_same(pair: Fleet) -> None:
    with smls.BlockingClient(pair.registry.url) as client:
        found = [client.infer("digits", {"input": PIXELS}) for _ in range(20)]
        assert {each.address for each in found} <= {node.address for node in pair.nodes}
        assert {(each.model, each.version) for each in found} == {("digits", "1")}
        for each in found:
            assert list(each.outputs) == ["final_result"]
            assert each.outputs["final_result"].shape == (3, 10)
            np.testing.assert_allclose(
                each.outputs["final_result"], found[0].outputs["final_result"], rtol=1e-4
            )
        one = client.infer("digits", {"input": PIXELS[:1]}, ["final_result"], version=1)
        assert one.outputs["final_result"].shape == (1, 10)
        with pytest.raises(BadRequest, match="FP64"):
            client.infer("digits", {"input": PIXELS.astype(np.float64)})
        with pytest.raises(BadRequest, match="complex"):
            client.infer("digits", {"input": PIXELS.astype(np.complex64)})
        with pytest.raises(BadRequest, match="arrays by name"):
            client.infer("digits", PIXELS)  # type: ignore[arg-type]
        with pytest.raises(BadRequest, match="outputs: got 'x'"):
            client.infer("digits", {"input": PIXELS}, ["x"])


def test_a_node_that_dies_is_passed_over(pair: Fleet) -> None:
    gone = "127.0.0.1:9"
    with smls.BlockingClient(nodes=[gone, pair.nodes[0].address]) as client:
        for _ in range(4):
            assert client.infer("digits", {"input": PIXELS}).address == pair.nodes[0].address


def test_models_are_listed_by_registries_and_by_nodes(pair: Fleet) -> None:
    with smls.BlockingClient(pair.registry.url) as client:
        (listed,) = client.models()
        assert (listed.name, listed.version, listed.state) == ("digits", "1", "AVAILABLE")
        assert set(listed.nodes) == {node.address for node in pair.nodes}
        with pytest.raises(smls.errors.SmlsError, match="other"):
            client.infer("other", {"input": PIXELS})
    with smls.BlockingClient(nodes=[pair.nodes[0].address, "127.0.0.1:9"]) as client:
        (told,) = client.models()
        assert (told.name, told.nodes) == ("digits", (pair.nodes[0].address,))
    one = smls.BlockingClient(nodes=[pair.nodes[0].address])
    with one as client, pytest.raises(ModelNotFound, match="other"):
        client.infer("other", {"input": PIXELS})


def test_asyncio(pair: Fleet) -> None:
    async def program() -> None:
        async with aio.Client(pair.registry.url) as client:
            asked = [client.infer("digits", {"input": PIXELS}) for _ in range(4)]
            for each in await asyncio.gather(*asked):
                assert each.outputs["final_result"].shape == (3, 10)
            assert [each.name for each in await client.models()] == ["digits"]

    asyncio.run(program())


def test_the_command(pair: Fleet, tmp_path: Path) -> None:
    node = ("--node", pair.nodes[0].address)
    array, archive, saved = (tmp_path / name for name in ("x.npy", "x.npz", "found.npz"))
    np.save(array, PIXELS)
    np.savez(archive, input=PIXELS)
    texts = [
        (f"input={array}", ""),
        (archive, ""),
        ("-", json.dumps({"input": PIXELS.tolist()})),
        ("input=-", json.dumps(PIXELS.tolist())),
    ]
    answers = []
    for source, text in texts:
        done = run("smls-client", *node, "infer", "digits", source, text=text)
        assert (done.returncode, done.stderr) == (0, "")
        answers.append(np.array(json.loads(done.stdout)["outputs"]["final_result"]))
        np.testing.assert_allclose(answers[-1], answers[0], rtol=1e-4)
    done = run("smls-client", *node, "infer", "digits", archive, "--save", saved)
    assert (done.returncode, done.stdout) == (0, "")
    with np.load(saved) as outputs:
        np.testing.assert_allclose(outputs["final_result"], answers[0], rtol=1e-4)

    listed = run("smls-client", *node, "models")
    assert listed.stdout.splitlines()[1].split()[:3] == ["digits", "1", "AVAILABLE"]
    (line,) = run("smls-client", *node, "models", "--json").stdout.splitlines()
    assert json.loads(line)["nodes"] == [pair.nodes[0].address]


@pytest.mark.parametrize(
    ("source", "text", "told"),
    [
        ("x.npy", "", "No such file"),
        ("{array}", "", "NAME="),
        ("a={archive}", "", "names of its own"),
        ("-", "{", "nor JSON"),
        ("-", "[1]", "by their names"),
        ("-", '{"x": [[1], [1, 2]]}', "unlike lengths"),
        ("-", '{"x": [null]}', "wanted numbers"),
        ("-", '{"inputs": [{}]}', "name: got None"),
    ],
)
def test_sources_that_cannot_be_read(source: str, text: str, told: str, tmp_path: Path) -> None:
    array, archive = tmp_path / "a.npy", tmp_path / "a.npz"
    np.save(array, PIXELS)
    np.savez(archive, input=PIXELS)
    named = source.format(array=array, archive=archive)
    done = run("smls-client", "--node", "127.0.0.1:9", "infer", "digits", named, text=text)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
