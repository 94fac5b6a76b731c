# SPDX-License-Identifier: MIT
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smls.errors import ModelUnusable, NodeFault
from smls_node.labels import hash_of, read_labels, top_k


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=30), st.integers(1, 40))
def test_top_k_is_a_stable_sort_cut_short(scores: list[float], count: int) -> None:
    labels = [str(index) for index in range(len(scores))]
    best = top_k(np.array(scores, np.float32), labels, count)
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    assert [label for label, _ in best] == [labels[index] for index in order][:count]
    assert [np.float32(score) for _, score in best] == [
        np.float32(scores[int(label)]) for label, _ in best
    ]


def test_a_score_that_is_no_number_is_the_models_fault() -> None:
    with pytest.raises(NodeFault, match="NaN"):
        top_k(np.array([0.1, np.nan], np.float32), ["a", "b"], 1)


def test_labels_are_lines_and_their_hash_tells_them_apart(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("daisy \nrösti\n\ntulip\n\n\n", encoding="utf-8")
    assert read_labels(file) == ("daisy", "rösti", "", "tulip")
    assert hash_of(["a", "b"]) == hash_of(("a", "b")) != hash_of(["b", "a"])


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe\x00"])
def test_unusable_label_files_are_told(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "labels.txt"
    file.write_bytes(content)
    with pytest.raises(ModelUnusable, match=r"labels\.txt"):
        read_labels(file)
    with pytest.raises(ModelUnusable, match="absent"):
        read_labels(tmp_path / "absent.txt")
