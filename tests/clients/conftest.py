# SPDX-License-Identifier: MIT
"""A node that clients which we did not write ask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.processes import LOCAL, Running, running


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One with the built-in digits, which it does not measure first."""
    home = str(tmp_path_factory.mktemp("cache"))
    options = ("--operator-threads", "1", "--runs", "2", "--grpc-port", "0")
    with running("smls-node", *LOCAL, *options, XDG_CACHE_HOME=home) as node:
        yield node
