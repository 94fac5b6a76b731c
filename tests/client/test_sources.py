# SPDX-License-Identifier: MIT
"""What a command line's names stand for."""

from __future__ import annotations

import os
from pathlib import Path

from smls.sources import Source, sources


def test_files_stand_for_themselves_in_order() -> None:
    assert list(sources(["b.jpg", "a.txt"])) == [Source("b.jpg"), Source("a.txt")]


def test_a_directory_stands_for_its_images_sorted(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.JPG", "a.png", "notes.txt", "deep/c.webp"):
        (tmp_path / name).touch()
    found = [os.path.relpath(each.name, tmp_path) for each in sources([str(tmp_path)])]
    assert found == ["a.png", "b.JPG", "deep/c.webp"]


def test_a_directory_without_images_is_a_fault(tmp_path: Path) -> None:
    (found,) = sources([str(tmp_path)])
    assert "without images" in found.fault


def test_names_come_from_standard_input_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    source, sink = os.pipe()
    found = sources(["first", "-", "last"], source)
    assert next(found) == Source("first")
    os.write(sink, b"one.jpg\n\nw\xe9ird name\n")
    assert next(found) == Source("one.jpg")
    assert os.fsencode(next(found).name) == b"w\xe9ird name"
    os.write(sink, os.fsencode(tmp_path) + b"\nno newline")
    os.close(sink)
    rest = [Source(str(tmp_path / "a.png")), Source("no newline"), Source("last")]
    assert list(found) == rest
    os.close(source)
