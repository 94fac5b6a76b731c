# SPDX-License-Identifier: MIT
"""A fleet whose nodes serve different versions of one model, asked by real clients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import smls
from tests.integration.fleet import THREE, UNMEASURED, Fleet, ask
from tests.integration.test_models import put
from tests.processes import LOCAL, running, running_all, until

SETTINGS = 'versions = "all"\nversion_labels = {{stable = {}, canary = {}}}\n'

SERVED = {"old": (1, 2), "new": (2, 3), "both": (1, 3)}
"""The versions of each node: the lower one is its stable one, the higher one its canary."""


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    commands: list[tuple[object, ...]] = []
    with running("smls-registry", *LOCAL) as registry:
        for name, (low, high) in SERVED.items():
            model = tmp_path_factory.mktemp(name) / "flowers"
            for version in (low, high):
                put(model, version, [1, 2])
            (model / "smls.toml").write_text(SETTINGS.format(low, high))
            options = ("--models", model.parent, "--registry", registry.url, "--node-name", name)
            commands.append(("smls-node", *LOCAL, *UNMEASURED, *options))
        with running_all(*commands) as nodes:
            until(lambda: all_labels(registry.url) == len(SERVED) * 2)
            yield Fleet(registry, tuple(nodes))


def all_labels(url: str) -> int:
    nodes = ask(f"{url}v1/nodes").json["nodes"]
    return sum(len(model["labels"]) for node in nodes for model in node["models"])


@pytest.fixture
def client(versions: Fleet) -> Iterator[smls.BlockingClient]:
    with smls.BlockingClient(versions.registry.url, cache=False, balancer="round-robin") as client:
        yield client


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_version_is_asked_of_the_nodes_that_have_it(
    client: smls.BlockingClient, version: int
) -> None:
    found = [client.classify(THREE, model="flowers", version=version) for _ in range(6)]
    assert {each.node for each in found} == {
        name for name, served in SERVED.items() if version in served
    }
    assert {each.version for each in found} == {str(version)}
    assert {each.predictions[0].label for each in found} == {f"flowers-{version}-1"}


@pytest.mark.parametrize("label", ["stable", "canary"])
def test_a_label_is_each_nodes_own_version_of_that_name(
    client: smls.BlockingClient, label: str
) -> None:
    found = [client.classify(THREE, model="flowers", label=label) for _ in range(9)]
    pick = min if label == "stable" else max
    assert {(each.node, each.version) for each in found} == {
        (name, str(pick(served))) for name, served in SERVED.items()
    }
    for each in found:
        assert each.predictions[0].label == f"flowers-{each.version}-1"


def test_what_nobody_serves_is_told_and_nobody_is_asked(client: smls.BlockingClient) -> None:
    for wanted in ({"version": 4}, {"label": "beta"}):
        with pytest.raises(smls.NoLiveNodes, match="flowers"):
            client.classify(THREE, model="flowers", **wanted)


def test_a_key_keeps_its_node_from_whichever_client(versions: Fleet) -> None:
    kept = []
    for _ in range(2):
        with smls.BlockingClient(versions.registry.url, cache=False) as client:
            kept.append(
                {
                    key: {
                        (found.node, found.version)
                        for found in (
                            client.classify(THREE, model="flowers", version=3, key=key)
                            for _ in range(3)
                        )
                    }
                    for key in map(str, range(12))
                }
            )
    assert kept[0] == kept[1]
    assert all(len(each) == 1 for each in kept[0].values())
    assert {node for each in kept[0].values() for node, _ in each} == {"new", "both"}
