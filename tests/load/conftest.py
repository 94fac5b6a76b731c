# SPDX-License-Identifier: MIT
"""One node under all storms: what one of them breaks, the next ones see."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from smls_node import embedded
from tests.integration.fleet import UNMEASURED
from tests.integration.graphs import write_slow
from tests.load.watch import Watch
from tests.processes import LOCAL, running

SLOW_LAYERS = 6
"""So slow that it never runs pairs, whose first one takes memory whenever it comes."""


@pytest.fixture(scope="package")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    """A node with the models ``digits`` (the default) and ``slow``, a few ten runs a second."""
    folder = tmp_path_factory.mktemp("graphs")
    digits = ("--graph", embedded.GRAPH, "--labels", embedded.LABELS, "--name", "digits")
    slow = write_slow(folder, "slow", SLOW_LAYERS)
    options = (*digits, *slow, "--default-model", "digits", "--log-format", "json")
    with running("smls-node", *LOCAL, *UNMEASURED, *options) as node:
        yield Watch(node)


@pytest.fixture
def calm(watched: Watch) -> Iterator[Watch]:
    """The node before a storm; after it, it must be as it was."""
    before = watched.at_rest()
    yield watched
    watched.back_to(before)
