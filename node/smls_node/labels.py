# SPDX-License-Identifier: MIT
"""A model's labels and the best of them for a row of scores."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smls.errors import ModelUnusable, NodeFault

Prediction = tuple[str, float]
"""A label and its score."""


def read_labels(path: Path) -> tuple[str, ...]:
    """The labels in the file, one a line; blank lines at its end are left out.

    :raises ModelUnusable: where the file cannot be read as UTF-8 text or holds nothing.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelUnusable(f"labels {path}: {error}") from error
    labels = tuple(line.strip() for line in text.rstrip().splitlines())
    if not labels:
        raise ModelUnusable(f"labels {path}: got an empty file, wanted one label a line")
    return labels


def hash_of(labels: Sequence[str]) -> str:
    """16 hexadecimal digits that two nodes share when their labels are the same."""
    return hashlib.sha256("\n".join(labels).encode()).hexdigest()[:16]


def top_k(scores: NDArray[np.float32], labels: Sequence[str], count: int) -> tuple[Prediction, ...]:
    """The ``count`` best labels, best first; among equal scores the earlier label is first.

    :param scores: float32[K], one score a label.
    :raises NodeFault: where a score is not a number.

    >>> top_k(np.array([0.1, 0.7, 0.2], np.float32), ["a", "b", "c"], 2)
    (('b', 0.7), ('c', 0.2))
    """
    if np.isnan(scores).any():
        raise NodeFault("the model answered with a score that is not a number (NaN)")
    best = np.argsort(-scores, kind="stable")[:count]
    return tuple((labels[index], _shortest(scores[index])) for index in best)


def _shortest(score: np.float32) -> float:
    # The float whose text is the shortest that a float32 has: 0.7, not 0.699999988079071.
    return float(str(score))
