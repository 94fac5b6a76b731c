# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from smls.errors import BadRequest, ModelNotFound
from smls_node.catalogue import Catalogue
from tests.node.memory import MemoryNode, model


def catalogue(*models: tuple[str, str], default: str | None = None) -> Catalogue:
    return MemoryNode(*(model(*each) for each in models), default=default).serving.catalogue


@given(st.sets(st.integers(0, 10**6), min_size=1, max_size=10))
def test_the_latest_version_is_the_greatest_number(versions: set[int]) -> None:
    filled = catalogue(*(("m", str(version)) for version in versions), ("m", "draft"))
    assert filled.find("m").version == str(max(versions))
    assert filled.find("m", "draft").version == "draft"


def test_one_model_needs_no_name_and_several_do() -> None:
    assert catalogue(("a", "1"), ("a", "2")).find().version == "2"
    with pytest.raises(BadRequest, match="a, b"):
        catalogue(("a", "1"), ("b", "1")).find()
    assert catalogue(("a", "1"), ("b", "1"), default="b").find().name == "b"


def test_what_is_not_there_is_told_with_what_is() -> None:
    with pytest.raises(ModelNotFound, match="one of a"):
        catalogue(("a", "1")).find("b")
    with pytest.raises(ModelNotFound, match="one of 1"):
        catalogue(("a", "1")).find("a", "2")
    with pytest.raises(ModelNotFound, match="one of a"):
        catalogue(("a", "1"), default="b").check_default()


def test_a_record_says_what_a_registry_lists() -> None:
    record = catalogue(("a", "3")).find().record()
    assert (record.name, record.version, record.state) == ("a", "3", "AVAILABLE")
    assert len(record.labels_hash) == 16
    assert record.capacity == 0


def test_a_record_says_how_many_images_a_second_were_measured() -> None:
    found = catalogue(("a", "3")).find()
    measured = evolve(found.arrangement, runs=2, anchors=((1, 0.01), (8, 0.03)))
    assert evolve(found, arrangement=measured).record().capacity == 533.3
