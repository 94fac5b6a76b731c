# SPDX-License-Identifier: MIT
"""Libraries that are forked after they were imported, as a node does that loads while it serves."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from smls_node import embedded, formats
from smls_node.pools import Pools
from smls_node.runtimes import GraphFiles, Runtime, tensorflow
from smls_node.settings import ModelSettings
from tests.processes import until


@pytest.fixture(scope="module")
def pools() -> Iterator[Pools]:
    with closing(Pools()) as pools:
        yield pools


def graph(pools: Pools) -> Runtime:
    files = GraphFiles(embedded.GRAPH)
    how = {"operator_threads": 2, "runs": 2}
    return pools.beside().load(formats.GRAPH.preloaded, tensorflow.load, files, **how)


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def process_of(runtime: Runtime) -> int:
    return int(until(lambda: runtime.process.startswith("process") and runtime.process).split()[1])


def test_tensorflow_runs_in_forks_through_loads_unloads_and_crashes(pools: Pools) -> None:
    wanted = None
    first = graph(pools)
    batch = {name: np.repeat(row, 4, 0) for name, row in first.example.items()}
    forker = parent(process_of(first))
    # It has no thread but the one that forks: no session, no pool.
    assert os.listdir(f"/proc/{forker}/task") == [str(forker)]
    for _ in range(4):
        other = graph(pools)
        assert parent(process_of(other)) == forker
        with ThreadPoolExecutor(2) as both:
            answers = [
                asked.result()
                for asked in [
                    both.submit(each.infer, batch, "serving_default", {})
                    for each in (first, other) * 4
                ]
            ]
        for (output,) in (answer.values() for answer in answers):
            wanted = output if wanted is None else wanted
            assert np.array_equal(output, wanted)
        other.unload()
    before = process_of(first)
    second = graph(pools)
    os.kill(before, signal.SIGKILL)
    until(lambda: not first.process.startswith(f"process {before} "))
    assert parent(process_of(first)) == forker
    for each in (first, second):
        assert np.array_equal(next(iter(each.infer(batch, "serving_default", {}).values())), wanted)
        each.unload()
    until(lambda: not Path(f"/proc/{forker}").exists())


def test_only_what_the_format_needs_is_imported(pools: Pools, tmp_path: Path) -> None:
    skops = pytest.importorskip("skops.io")
    from sklearn.tree import DecisionTreeClassifier

    tree = DecisionTreeClassifier().fit([[0.0], [1.0]], [0, 1])
    skops.dump(tree, tmp_path / "model.skops")
    settings = formats.located(ModelSettings(tmp_path / "model.skops"))
    runtime = pools.beside().load(
        formats.SKLEARN.preloaded, formats.load, settings, operator_threads=1, runs=1
    )
    maps = Path(f"/proc/{parent(process_of(runtime))}/maps").read_text()
    assert "sklearn" in maps
    assert "tensorflow" not in maps
    runtime.unload()
