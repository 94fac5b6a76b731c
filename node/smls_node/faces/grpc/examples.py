# SPDX-License-Identifier: MIT
"""The ``tensorflow.Example``s of a call as features by name. Pure."""

from __future__ import annotations

from typing import Any

from smls_node.examples import Example


def examples_of(given: Any) -> list[Example]:
    """The examples of an ``Input``; each has its context's features where it has none of its own
    of that name."""
    kind = given.WhichOneof("kind")
    told = getattr(given, kind) if kind else given.example_list
    shared = _features(told.context) if kind == "example_list_with_context" else {}
    return [{**shared, **_features(each)} for each in told.examples]


def _features(example: Any) -> dict[str, Any]:
    return {
        name: list(getattr(feature, kind).value) if (kind := feature.WhichOneof("kind")) else []
        for name, feature in example.features.feature.items()
    }
