# SPDX-License-Identifier: MIT
"""What takes long to be made, kept in a file for later starts.

The laws:

- A file holds for its key alone, which stands in its first line: what it was made of, and how.
- It is read into memory, and holds only where it is what was written to the last byte: its hash
  stands there too. So the file may be replaced, cut or deleted while what it holds is used.
- It is written whole or not at all, over the one that was there.
- Where it can be neither read nor written, it is made anew at the next start.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from smls_node import machine

MAGIC = b"smls-kept-1"
"""The first line's beginning, with the number of what this module reads and writes."""

LONGEST_LINE = 1024

Bytes = NDArray[np.uint8]

log = logging.getLogger(__name__)


@frozen
class Kept:
    """A file in one of ``places``, the first whose folder can be written to, for ``key``, words of
    ASCII."""

    places: tuple[Path, ...]
    key: str

    def read(self) -> Bytes | None:
        """What was kept for the key, where it is there and unharmed. Blocks."""
        for place in self.places:
            try:
                found = self._read(place)
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                log.warning("%s is made anew: %s", place, error)
                continue
            if found is not None:
                return found
        return None

    def write(self, make: Callable[[], memoryview]) -> Path:
        """Keeps what ``make`` gives, which is called once there is a file to write to. Blocks.

        :raises OSError: where no file can be written.
        :raises Exception: what ``make`` raises.
        """

        def parts() -> tuple[bytes, memoryview]:
            data = make()
            return self._line(hashlib.sha256(data).hexdigest()), data

        return machine.write_whole(parts, *self.places)

    def forget(self) -> None:
        """Removes the files, whatever their keys. Blocks.

        :raises OSError: where one is there and cannot be removed.
        """
        for place in self.places:
            # Where nothing may be written, even what is not there cannot be removed.
            if place.exists():
                place.unlink(missing_ok=True)

    def _read(self, place: Path) -> Bytes | None:
        with place.open("rb") as file:
            line = file.readline(LONGEST_LINE)
            *words, hashed = line.decode("ascii", "replace").split() or [""]
            if not line.startswith(MAGIC + b" "):
                raise ValueError("it is none that a node has written")
            if words[1:] != self.key.split():
                return None
            data = np.fromfile(file, np.uint8)
        if hashlib.sha256(data.data).hexdigest() != hashed:
            raise ValueError(f"its {len(data)} bytes are not those that were written")
        return data

    def _line(self, hashed: str) -> bytes:
        return b"%s %s %s\n" % (MAGIC, self.key.encode("ascii"), hashed.encode("ascii"))
