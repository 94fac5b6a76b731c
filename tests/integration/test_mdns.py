# SPDX-License-Identifier: MIT
"""Three machines on one network, none told of another: they find each other by multicast DNS.

The machines are network namespaces, whose names and addresses nobody else sees.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.town import SUBNET, NoTown, Town

from tests.integration.fleet import THREE
from tests.processes import command, environment, until

MEGABITS = 1000

SECONDS = 60
"""A client that takes longer has hung: it looks for registries for two seconds."""


@pytest.fixture
def town() -> Iterator[Town]:
    try:
        with Town() as town:
            for host in ("registry", "node", "client"):
                town.host(host, MEGABITS)
            yield town
    except NoTown as error:
        pytest.skip(str(error))


def test_registry_node_and_client_find_each_other(
    town: Town, light_digits: tuple[object, ...], tmp_path: Path
) -> None:
    log = tmp_path / "node.log"
    with log.open("wb") as of_node, (tmp_path / "registry.log").open("wb") as of_registry:
        options = (*light_digits, "--node-name", "one", "--port", 8501)
        town.start("node", [*command("smls-node"), *options], of_node, env=environment())
        town.start("registry", command("smls-registry"), of_registry, env=environment())
        until(lambda: b"announced at registry" in log.read_bytes())
        line = [*command("smls-client"), "classify", "--json", THREE]
        found = json.loads(town.run("client", line, SECONDS).stdout)
    assert (found["node"], found["address"]) == ("one", f"{SUBNET}.2:8501")
    assert found["predictions"][0]["label"] == "3"
