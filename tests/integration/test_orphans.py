# SPDX-License-Identifier: MIT
"""What a node starts ends with it, even where the node is killed."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.graphs import write_slow
from tests.processes import LOCAL, Running, until

SECONDS = 5

LAYERS = 12
"""Measuring a batch of 32 images takes longer, once, where nobody ends it."""


@pytest.mark.skipif(sys.platform != "linux", reason="a process of Linux ends with its parent")
def test_a_node_that_is_killed_while_it_measures_leaves_nothing_running(tmp_path: Path) -> None:
    slow = write_slow(tmp_path, "slow", LAYERS)
    loading = Running("smls-node", *LOCAL, *slow, XDG_CACHE_HOME=str(tmp_path))
    with closing(loading):
        # The child that measures, and the fork of it that tries one arrangement.
        left = until(lambda: at_least_two(descendants(loading.process.pid)))
        loading.process.kill()
        end = time.monotonic() + SECONDS
        until(lambda: not any(map(runs, left)))
        assert time.monotonic() < end


def at_least_two(pids: list[int]) -> list[int]:
    return pids if len(pids) >= 2 else []


def descendants(pid: int) -> list[int]:
    """The processes that ``pid`` and its descendants have started and that still run."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            try:
                found += map(int, task.read_text().split())
            except OSError:
                continue
    return found[1:]


def runs(pid: int) -> bool:
    """Whether the process is there, and no zombie that nobody has asked for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
