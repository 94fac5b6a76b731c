# SPDX-License-Identifier: MIT
"""Objects by name and configuration: the same ones are one object, however many ask for it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol, TypeVar

from attrs import define, field


class Unloadable(Protocol):
    """What a factory keeps."""

    def unload(self) -> None: ...


T = TypeVar("T", bound=Unloadable)


@define(eq=False)
class _Held:
    made: Future[Unloadable] = field(factory=Future)
    holders: int = 0


class Factory:
    """Makes each object once, and unloads it when all who asked for it have given it back.

    All calls may be made in any thread.
    """

    def __init__(self) -> None:
        self._held: dict[Hashable, _Held] = {}
        self._changing = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The object of ``key``, made by ``make`` where there is none yet.

        Who asks while it is made waits for it, and fails of what it fails of.

        :raises Exception: what ``make`` raises; the next who asks makes it anew.
        """
        with self._changing:
            is_new = key not in self._held
            held = self._held.setdefault(key, _Held())
            held.holders += 1
        if is_new:
            try:
                held.made.set_result(make())
            except BaseException as error:
                with self._changing:
                    del self._held[key]
                held.made.set_exception(error)
                raise
        return held.made.result()  # type: ignore[return-value]

    def give_back(self, key: Hashable) -> None:
        """Unloads the object of ``key`` where nobody else holds it."""
        with self._changing:
            held = self._held[key]
            held.holders -= 1
            if held.holders:
                return
            del self._held[key]
        held.made.result().unload()


OBJECTS = Factory()
"""The process's own: what a node serves and what ``services`` give to its code is one."""


def stamp(path: Path, counts: Callable[[str], bool] = lambda name: True) -> Hashable:
    """What tells the file or folder at ``path`` from another one that was there before, by the
    files in it whose name ``counts``."""
    if path.is_file():
        return _stamp(path)
    found = []
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(each for each in folders if each[0] != "." and each != "__pycache__")
        files = [Path(folder, each) for each in sorted(names) if counts(each)]
        found += [(str(file), _stamp(file)) for file in files if file.is_file()]
    return tuple(found)


def _stamp(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
