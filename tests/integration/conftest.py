# SPDX-License-Identifier: MIT
"""Fleets that several tests share: starting a node takes seconds."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from attrs import asdict

from smls_node import acceleration, loading
from smls_node.acceleration import SESSION, Proof, Trial
from tests.integration.fleet import UNMEASURED, Fleet, at_port, free_port, names_at
from tests.integration.graphs import write_constant
from tests.processes import LOCAL, Running, running, running_all, until

TTL_SECONDS = 5
"""Long enough for a node that is starved by others, short enough to wait for."""


@pytest.fixture(scope="package", autouse=True)
def findings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One folder for what nodes measure that are not told to leave it, as the README's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="package")
def light_digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """Options of a node that has the digits in OpenVINO, and so starts without TensorFlow.

    The proof that this may be is given to it.
    """
    pytest.importorskip("openvino")
    folder = tmp_path_factory.mktemp("findings")
    files = loading.files_of(loading.EMBEDDED)
    session = Trial(SESSION, "f32", False, 1, 1.0, 1.0, 0.0, ((1, 1.0),))
    fast = Trial("openvino", "f32", True, 1, 500.0, 1.0, 0.0, ((1, 0.002),))
    proof = Proof(acceleration.key_of(files), "another test's word", (session, fast))
    _, place = acceleration.places(files, folder, proof.key)
    place.write_text(json.dumps(asdict(proof)))
    return ("--accelerate", "openvino", "--findings", folder)


@pytest.fixture(scope="package")
def registries() -> Iterator[list[Running]]:
    """Three registries: for a fleet that stays, for one of two models, for one whose nodes die."""
    options = (*LOCAL, "--ttl", TTL_SECONDS, "--log-format", "json")
    with running_all(*[("smls-registry", *options)] * 3) as registries:
        yield registries


@pytest.fixture(scope="package")
def absent_port() -> int:
    """The port of a registry that is not there when the nodes start."""
    return free_port()


@pytest.fixture(scope="package")
def pair(registries: list[Running], absent_port: int) -> Iterator[Fleet]:
    """Two nodes for digits; the first is known at the other registries too."""
    own, *others = registries
    absent = f"http://127.0.0.1:{absent_port}"
    options = ("smls-node", *LOCAL, *UNMEASURED, "--log-format", "json", "--registry", own.url)
    first = (*options, "--node-name", "one", "--registry", absent)
    for each in others:
        first += ("--registry", each.url)
    second = (*options, "--node-name", "two", "--registry", absent)
    with running_all(first, second) as nodes:
        until(lambda: names_at(own) == {"one", "two"})
        yield Fleet(own, tuple(nodes))


@pytest.fixture(scope="package")
def mixed(
    registries: list[Running], pair: Fleet, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """A node for digits, and one for the models ``colours`` and ``shapes``, the default."""
    folder = tmp_path_factory.mktemp("graphs")
    registry = registries[1]
    graphs = (
        *(*write_constant(folder, "colours", [3, 1, 2]), "--version", "4"),
        *write_constant(folder, "shapes", [1, 2]),
    )
    options = ("--registry", registry.url, "--node-name", "three", "--default-model", "shapes")
    with running("smls-node", *LOCAL, *UNMEASURED, *graphs, *options) as node:
        until(lambda: names_at(registry) == {"one", "three"})
        yield Fleet(registry, (pair.nodes[0], node))


@pytest.fixture
def absent(absent_port: int, pair: Fleet) -> tuple[str, ...]:
    """The options of the registry that the pair has known of and never seen."""
    return (*at_port(absent_port), "--ttl", "3")
