# SPDX-License-Identifier: MIT
"""A model is measured in real children, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from smls_node import embedded, tuning
from smls_node.runtimes import GraphFiles, Runtime
from tests.node.memory import Brightness

FILES = GraphFiles(embedded.GRAPH)


@pytest.mark.parametrize(
    ("seconds", "sizes"), [(0.3, {1}), (0.04, {1, 2}), (0.001, {1, 8, 32}), (None, {1, 8})]
)
def test_no_larger_batch_is_tried_where_one_takes_long_or_wins_nothing(
    seconds: float | None, sizes: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(model: Runtime, size: int, callers: int) -> float:
        # Each image costs the same, beside what a batch does; or twice as much in larger ones.
        return 0.002 + seconds * size if seconds else 0.01 * size * size

    monkeypatch.setattr(tuning, "seconds_of", measured)
    assert set(tuning.sizes_of(Brightness(), 1)) == sizes


def test_a_damaged_finding_is_made_anew_once_and_kept(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    kept = tuning.place_of(FILES, tmp_path)
    kept.write_text("{}")
    done = []
    found = tuning.arrangement_for(FILES, tmp_path, lambda: done.append("meanwhile"))
    assert found.why.startswith("measured")
    assert [size for size, _ in found.anchors] == [1, 8, 32]
    assert list(tmp_path.glob("*.json")) == [kept]
    written = kept.stat().st_mtime_ns
    assert tuning.arrangement_for(FILES, tmp_path, lambda: done.append("again")) == found
    assert done == ["meanwhile"]
    assert kept.stat().st_mtime_ns == written


def test_what_fails_meanwhile_ends_the_measuring(tmp_path: Path) -> None:
    def fail() -> None:
        raise ImportError("no library")

    before = _children()
    with pytest.raises(ImportError, match="no library"):
        tuning.arrangement_for(FILES, tmp_path, fail)
    assert _children() == before
    assert not list(tmp_path.glob("*.json"))


def test_what_cannot_be_measured_runs_as_most_models_do(tmp_path: Path) -> None:
    junk = tmp_path / "junk.pb"
    junk.write_bytes(b"\xff" * 99)
    found = tuning.arrangement_for(GraphFiles(junk), tmp_path / "findings")
    assert found.why == "not measured"
    assert not list((tmp_path / "findings").glob("*.json"))


def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = tuning.arrangement_for(FILES, tmp_path / "file" / "folder")
    assert found.why == "not measured"


def _children() -> set[str]:
    """The processes that this one has started and that are not gone."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {each for task in tasks for each in task.read_text().split()}
