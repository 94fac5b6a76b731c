# SPDX-License-Identifier: MIT
"""Bodies that come as gzip and zlib files."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smls.errors import BadRequest, TooLarge
from smls.inflate import Inflate

PACK = pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])


@PACK
@given(data=st.binary(max_size=500), size=st.integers(1, 50))
def test_a_file_comes_out_as_it_went_in_however_it_is_cut(
    pack: Callable[[bytes], bytes], data: bytes, size: int
) -> None:
    file, inflate = pack(data), Inflate(len(data))
    pieces = [inflate.take(file[at : at + size]) for at in range(0, len(file), size)]
    inflate.end()
    assert b"".join(pieces) == data


@PACK
def test_a_bomb_is_refused_before_it_is_large(pack: Callable[[bytes], bytes]) -> None:
    with pytest.raises(TooLarge):
        Inflate(1000).take(pack(bytes(50_000_000)))


@pytest.mark.parametrize(
    "data", [b"text", gzip.compress(b"a") + b"more", zlib.compress(b"a") + b"b"]
)
def test_what_is_no_file_or_more_than_one_is_refused(data: bytes) -> None:
    with pytest.raises(BadRequest, match="Content-Encoding"):
        Inflate(1000).take(data)


@PACK
def test_a_file_that_is_cut_short_is_refused(pack: Callable[[bytes], bytes]) -> None:
    inflate = Inflate(1000)
    inflate.take(pack(b"hallo")[:-1])
    with pytest.raises(BadRequest, match="cut short"):
        inflate.end()
