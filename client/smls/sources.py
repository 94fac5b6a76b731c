# SPDX-License-Identifier: MIT
"""What a command line names: images, texts, and rows of features."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from attrs import frozen

from smls.errors import BadRequest

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
                if line.strip():
                    yield from _expanded(line)
        else:
            yield from _expanded(name)


def texts(names: Iterable[str], standard_input: int = 0) -> Iterator[str]:
    """The texts in order; ``-`` stands for those on standard input, one a line, empty ones too."""
    for name in names:
        if name == STANDARD_INPUT:
            yield from (line.removesuffix("\r") for line in _lines(standard_input))
        else:
            yield name


def rows(name: str) -> list[dict[str, Any]]:
    """The rows that ``name`` holds, which is JSON, a file of it, or ``-`` for standard input: an
    object, a list of such, or an object a line.

    :raises BadRequest: where it cannot be read, or holds anything else.
    """
    is_json = name.lstrip().startswith(("{", "["))
    where = "rows" if is_json else name
    try:
        content: str | bytes = (
            name
            if is_json
            else sys.stdin.buffer.read()
            if name == STANDARD_INPUT
            else Path(name).read_bytes()
        )
        found = _json_or_lines(content)
    except (OSError, ValueError, RecursionError) as error:
        raise BadRequest(f"{where}: {getattr(error, 'strerror', None) or error}") from error
    listed = found if isinstance(found, list) else [found]
    if not listed or not all(isinstance(row, dict) for row in listed):
        raise BadRequest(f"{where}: got {found!r:.80}, wanted an object of features, or several")
    return listed


def _json_or_lines(content: str | bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        lines = [line for line in content.splitlines() if line.strip()]
        if len(lines) > 1:
            try:
                return [json.loads(line) for line in lines]
            except ValueError:
                pass
        raise ValueError(f"got neither JSON nor an object a line: {error}") from error


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
        yield from map(os.fsdecode, lines)
    if rest:
        yield os.fsdecode(rest)
