# SPDX-License-Identifier: MIT
"""A node that clients which we did not write ask."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.clients.half_plus_two import save
from tests.processes import LOCAL, Running, running

OPTIONS = (*LOCAL, "--operator-threads", "1", "--runs", "2", "--grpc-port", "0")
"""Nothing is measured first."""


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One with the built-in digits."""
    home = str(tmp_path_factory.mktemp("cache"))
    with running("smls-node", *OPTIONS, XDG_CACHE_HOME=home) as node:
        yield node


@pytest.fixture(scope="session")
def tensorflow_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One with a folder as TensorFlow Serving has it: two versions of half_plus_two, of which the
    older adds 3, and half_plus_three."""
    folder = tmp_path_factory.mktemp("models")
    save(folder / "half_plus_two" / "00000123", 2.0)
    save(folder / "half_plus_two" / "7", 3.0)
    save(folder / "half_plus_three" / "00000123", 3.0)
    told = 'versions = "all"\nversion_labels = {stable = 123, canary = 7}\n'
    (folder / "half_plus_two" / "smls.toml").write_text(told)
    home = str(tmp_path_factory.mktemp("cache"))
    options = ("--models", str(folder))
    with running("smls-node", *OPTIONS, *options, XDG_CACHE_HOME=home) as node:
        yield node


ECHO = """\
from smls_node import MLModel


class Echo(MLModel):
    async def predict(self, given: dict) -> dict:
        return given
"""


@pytest.fixture(scope="session")
def mixed_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One with half_plus_two, and with ``echo``, which gives back what it is sent."""
    folder = tmp_path_factory.mktemp("models")
    save(folder / "half_plus_two" / "123", 2.0)
    (folder / "echo").mkdir()
    (folder / "echo" / "my_model.py").write_text(ECHO)
    told = {"name": "echo", "implementation": "my_model.Echo"}
    (folder / "echo" / "model-settings.json").write_text(json.dumps(told))
    home = str(tmp_path_factory.mktemp("cache"))
    options = ("--models", str(folder))
    with running("smls-node", *OPTIONS, *options, XDG_CACHE_HOME=home) as node:
        yield node
