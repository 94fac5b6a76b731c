# SPDX-License-Identifier: MIT
"""Bodies that come as gzip files."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smls.errors import BadRequest, TooLarge
from smls.inflate import Inflate


@given(st.binary(max_size=500), st.integers(1, 50))
def test_a_file_comes_out_as_it_went_in_however_it_is_cut(data: bytes, size: int) -> None:
    file, inflate = gzip.compress(data), Inflate(len(data))
    pieces = [inflate.take(file[at : at + size]) for at in range(0, len(file), size)]
    inflate.end()
    assert b"".join(pieces) == data


def test_a_bomb_is_refused_before_it_is_large() -> None:
    with pytest.raises(TooLarge):
        Inflate(1000).take(gzip.compress(bytes(50_000_000)))


@pytest.mark.parametrize("data", [b"text", gzip.compress(b"a") + b"more"])
def test_what_is_no_file_or_more_than_one_is_refused(data: bytes) -> None:
    with pytest.raises(BadRequest, match="Content-Encoding"):
        Inflate(1000).take(data)


def test_a_file_that_is_cut_short_is_refused() -> None:
    inflate = Inflate(1000)
    inflate.take(gzip.compress(b"hallo")[:-1])
    with pytest.raises(BadRequest, match="cut short"):
        inflate.end()
