# SPDX-License-Identifier: MIT
"""The images that a command line names: files, directories, or names on standard input."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from attrs import frozen

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Files of a directory that are taken for images; a file that is named is always taken."""

STANDARD_INPUT = "-"


@frozen
class Source:
    """One image's path, or what is wrong with it."""

    name: str
    fault: str = ""


def sources(names: Iterable[str], standard_input: int = 0) -> Iterator[Source]:
    """The images under ``names``, in order; ``-`` stands for names on standard input, one a line.

    A directory stands for the images in it and below it, sorted by their paths.
    """
    for name in names:
        if name == STANDARD_INPUT:
            for line in _lines(standard_input):
                yield from _expanded(line)
        else:
            yield from _expanded(name)


def _expanded(name: str) -> Iterator[Source]:
    if not os.path.isdir(name):
        yield Source(name)
        return
    faults: list[Source] = []
    found = sorted(
        os.path.join(folder, file)
        for folder, _, files in os.walk(
            name, onerror=lambda error: faults.append(Source(error.filename, str(error.strerror)))
        )
        for file in files
        if file.lower().endswith(SUFFIXES)
    )
    yield from faults
    yield from map(Source, found)
    if not found and not faults:
        yield Source(name, f"a directory without images ({', '.join(SUFFIXES)})")


def _lines(descriptor: int) -> Iterator[str]:
    """Lines as they come. Python's own standard input may not be read while the program ends."""
    rest = b""
    while chunk := os.read(descriptor, 65536):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (os.fsdecode(line) for line in lines if line.strip())
    if rest.strip():
        yield os.fsdecode(rest)
