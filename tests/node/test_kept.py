# SPDX-License-Identifier: MIT
from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from smls_node.kept import Kept

DATA = bytes(range(256)) * 40


def kept(folder: Path, key: str = "abc f32 2") -> Kept:
    return Kept((folder / "g.openvino", folder / "findings" / "g.openvino"), key)


def write(to: Kept, data: bytes = DATA) -> Path:
    return to.write(lambda: memoryview(data))


def read(of: Kept) -> bytes | None:
    found = of.read()
    return None if found is None else found.tobytes()


@contextmanager
def no_file_over(size: int) -> Iterator[None]:
    """As on a disk that is full soon."""
    was = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, was[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, was)
        signal.signal(signal.SIGXFSZ, handler)


def test_it_holds_for_its_key_alone_and_another_takes_its_place(tmp_path: Path) -> None:
    first = kept(tmp_path)
    assert read(first) is None
    assert write(first) == first.places[0]
    assert read(first) == DATA
    other = evolve(first, key="abc bf16 2")
    assert read(other) is None
    write(other, b"other")
    assert read(other) == b"other"
    assert read(first) is None
    assert list(tmp_path.iterdir()) == [first.places[0]]


def test_nothing_is_read_but_what_was_written(tmp_path_factory: pytest.TempPathFactory) -> None:
    whole = kept(tmp_path_factory.mktemp("kept"))
    place = write(whole)
    written = place.read_bytes()

    @given(st.data())
    def check(data: st.DataObject) -> None:
        at = data.draw(st.integers(0, len(written) - 1))
        harm = data.draw(st.sampled_from(["cut", "changed", "longer", "emptied"]))
        changed = bytes([written[at] ^ data.draw(st.integers(1, 255))])
        place.write_bytes(
            {
                "cut": written[:at],
                "changed": written[:at] + changed + written[at + 1 :],
                "longer": written + changed,
                "emptied": bytes(len(written)),
            }[harm]
        )
        # A line end may be another kind of space: the bytes are the same.
        assert read(whole) in (None, DATA)
        if harm != "changed":
            assert read(whole) is None

    check()
    write(whole)
    assert read(whole) == DATA


def test_where_the_folder_cannot_be_written_to_it_lies_with_the_findings(tmp_path: Path) -> None:
    to = kept(tmp_path)
    # A folder in the file's place: the one thing that root cannot write over either.
    to.places[0].mkdir()
    assert write(to) == to.places[1]
    assert read(to) == DATA
    to.places[1].unlink()
    to.places[1].mkdir()
    asked: list[int] = []
    with pytest.raises(OSError, match="directory"):
        write(to)
    to = evolve(to, places=tuple(tmp_path / "g" / name for name in "ab"))
    (tmp_path / "g").write_text("no folder")

    def make() -> memoryview:
        asked.append(1)
        return memoryview(DATA)

    with pytest.raises(OSError, match="exists"):
        to.write(make)
    assert asked == []


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    to = kept(tmp_path)
    write(to, b"small")
    with no_file_over(5000), pytest.raises(OSError, match="too large"):
        write(to)
    assert read(to) == b"small"
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == [to.places[0]]


def test_what_cannot_be_made_leaves_what_was_there(tmp_path: Path) -> None:
    def fail() -> memoryview:
        raise RuntimeError("cannot be exported")

    to = kept(tmp_path)
    write(to)
    with pytest.raises(RuntimeError, match="exported"):
        to.write(fail)
    assert read(to) == DATA
    assert list(tmp_path.iterdir()) == [to.places[0]]
