# SPDX-License-Identifier: MIT
"""Values between two processes of one machine, with arrays beside them as they lie in memory.

A value is pickled with its arrays left out (PEP 574). ``lend`` puts the arrays into memory that
both ends have mapped, so that they cost one copy; ``send`` lets them follow through the socket.
A channel carries one question at a time and its answer, so that the memory is free again when
the answer is there. Both ends trust each other: pickles run code.
"""

from __future__ import annotations

import mmap
import os
import pickle
import socket
import struct
from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T", bytes, int)

ALIGNMENT = 64
"""Where an array may begin: at a line of the processor's cache, as TensorFlow wants its own."""

AHEAD = 1 << 16
"""What is read at once: nearly all that has no arrays, since nothing else can be under way."""

MOST_PIECES = 1024
"""As many the system takes at once (IOV_MAX of POSIX, as Linux has it)."""

_HEAD = struct.Struct("<?xxxIQ")
"""Whether the arrays lie in shared memory, how many there are, and the pickle's bytes."""


class Closed(ConnectionError):
    """The other end is gone."""


class Channel:
    """One end of a channel. For one thread at a time."""

    def __init__(self, end: socket.socket, memory: int) -> None:
        """``memory`` is the descriptor of the memory that both ends share, which may be empty."""
        self._end = end
        self._memory = memory
        self._mapped: mmap.mmap | None = None
        self._ahead = b""

    def close(self) -> None:
        self._end.close()
        os.close(self._memory)

    def send(self, value: Any) -> None:
        """Sends ``value`` whole; it may have arrays that were lent to this end.

        :raises Closed: where the other end is gone.
        """
        text, arrays = _taken_apart(value)
        self._write([_head(False, text, arrays), text, *arrays])

    def lend(self, value: Any) -> None:
        """Sends ``value`` with its arrays in shared memory: the other end may use them until it
        answers.

        :raises Closed: where the other end is gone.
        """
        text, arrays = _taken_apart(value)
        places, size = _laid_out([len(array) for array in arrays])
        if size:
            shared = self._shared(size)
            for array, place in zip(arrays, places, strict=True):
                shared[place : place + len(array)] = array
        self._write([_head(True, text, arrays), text])

    def receive(self) -> Any:
        """What the other end sent next.

        :raises Closed: where the other end is gone.
        """
        is_shared, count, length = _HEAD.unpack(self._read(_HEAD.size))
        rest = memoryview(self._read(8 * count + length))
        sizes = struct.unpack_from(f"<{count}Q", rest)
        arrays: list[Any]
        if is_shared:
            places, size = _laid_out(sizes)
            shared = self._shared(size) if size else memoryview(b"")
            arrays = [
                shared[place : place + each] for place, each in zip(places, sizes, strict=True)
            ]
        else:
            arrays = [self._read(size) for size in sizes]
        return pickle.loads(rest[8 * count :], buffers=arrays)

    def _shared(self, size: int) -> memoryview:
        """The shared memory, of ``size`` bytes at least."""
        if self._mapped is None or len(self._mapped) < size:
            # Whoever lends makes it larger; pages that nobody has written to cost nothing.
            if os.fstat(self._memory).st_size < size:
                os.ftruncate(self._memory, 2 * size)
            self._mapped = mmap.mmap(self._memory, 0)
        return memoryview(self._mapped)

    def _write(self, pieces: list[Any]) -> None:
        views = [memoryview(piece) for piece in pieces]
        try:
            while views:
                sent = self._end.sendmsg(views[:MOST_PIECES])
                while views and sent >= len(views[0]):
                    sent -= len(views.pop(0))
                if views:
                    views[0] = views[0][sent:]
        except OSError as error:
            raise Closed(str(error)) from error

    def _read(self, size: int) -> bytearray:
        try:
            if not self._ahead and 0 < size < AHEAD:
                self._ahead = self._some(self._end.recv(AHEAD))
            data = bytearray(self._ahead[:size])
            self._ahead = self._ahead[size:]
            missing = size - len(data)
            if missing:
                data.extend(bytes(missing))
                rest = memoryview(data)[-missing:]
                while rest:
                    rest = rest[self._some(self._end.recv_into(rest)) :]
        except OSError as error:
            raise Closed(str(error)) from error
        return data

    def _some(self, received: T) -> T:
        if not received:
            raise Closed("the other end has closed")
        return received


def _taken_apart(value: Any) -> tuple[bytes, list[memoryview]]:
    """The pickle of ``value``, and the arrays that were left out of it."""
    left_out: list[pickle.PickleBuffer] = []
    text = pickle.dumps(value, protocol=5, buffer_callback=left_out.append)
    return text, [each.raw() for each in left_out]


def _head(is_shared: bool, text: bytes, arrays: Sequence[memoryview]) -> bytes:
    sizes = struct.pack(f"<{len(arrays)}Q", *(len(array) for array in arrays))
    return _HEAD.pack(is_shared, len(arrays), len(text)) + sizes


def _laid_out(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Where arrays of so many bytes begin, one after the other, and where the last one ends."""
    places, end = [], 0
    for size in sizes:
        begin = -(-end // ALIGNMENT) * ALIGNMENT
        places.append(begin)
        end = begin + size
    return places, end
