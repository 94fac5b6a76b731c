# SPDX-License-Identifier: MIT
"""Values between two processes of one machine, with arrays beside them as they lie in memory.

A value is pickled with its arrays left out (PEP 574). ``lend`` puts it into memory that both ends
have mapped, where arrays cost one copy, and tells so in a few bytes, which never block: a reactor
may ask. ``send`` lets all follow through the socket. A channel carries one question at a time and
its answer, so that the memory is free again when the answer is there. Both ends trust each other:
pickles run code.
"""

from __future__ import annotations

import mmap
import os
import pickle
import socket
import struct
from collections.abc import Generator, Iterable, Sequence
from typing import Any, TypeVar

T = TypeVar("T", bytes, int)

ALIGNMENT = 64
"""Where a piece may begin: at a line of the processor's cache, as TensorFlow wants its own."""

AHEAD = 1 << 16
"""What is read at once: nearly all that has no arrays, since nothing else can be under way."""

MOST_PIECES = 1024
"""As many the system takes at once (IOV_MAX of POSIX, as Linux has it)."""

_HEAD = struct.Struct("<?xxxIQ")
"""Whether the rest lies in shared memory, how many arrays there are, and the pickle's bytes. The
rest is the arrays' sizes, the pickle, and the arrays."""


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
        self._reading: Generator[memoryview, None, Any] | None = None
        self._missing = memoryview(b"")

    def fileno(self) -> int:
        """Of the socket that answers come through."""
        return self._end.fileno()

    def close(self) -> None:
        self._end.close()
        os.close(self._memory)
        # The mapping has a descriptor too, and what is half read would keep it until garbage is
        # collected.
        self._reading = self._mapped = None

    def send(self, value: Any) -> None:
        """Sends ``value`` whole; it may have arrays that were lent to this end.

        :raises Closed: where the other end is gone.
        """
        text, arrays = _taken_apart(value)
        self._write([_HEAD.pack(False, len(arrays), len(text)), _sizes(arrays), text, *arrays])

    def lend(self, value: Any) -> None:
        """Sends ``value`` in shared memory: the other end may use its arrays until it answers.

        :raises Closed: where the other end is gone.
        """
        text, arrays = _taken_apart(value)
        pieces: list[bytes | memoryview] = [_sizes(arrays), text, *arrays]
        places, size = _laid_out(map(len, pieces))
        shared = self._shared(size)
        for piece, place in zip(pieces, places, strict=True):
            shared[place : place + len(piece)] = piece
        self._write([_HEAD.pack(True, len(arrays), len(text))])

    def receive(self, *, wait: bool = True) -> Any:
        """What the other end sent next.

        :raises BlockingIOError: where not to ``wait``, until all of it has come.
        :raises Closed: where the other end is gone.
        """
        if self._reading is None:
            self._reading = self._read()
            self._missing = next(self._reading)
        try:
            while True:
                self._fill(0 if wait else socket.MSG_DONTWAIT)
                self._missing = next(self._reading)
        except StopIteration as end:
            self._reading = None
            return end.value

    def _read(self) -> Generator[memoryview, None, Any]:
        """Gives what is to be filled next, and in the end the value."""
        head = bytearray(_HEAD.size)
        yield memoryview(head)
        is_shared, count, length = _HEAD.unpack(head)
        if is_shared:
            return self._lent(count, length)
        sizes, text = bytearray(8 * count), bytearray(length)
        yield memoryview(sizes)
        yield memoryview(text)
        arrays = [bytearray(size) for size in _unpacked(sizes)]
        for array in arrays:
            yield memoryview(array)
        return pickle.loads(text, buffers=arrays)

    def _lent(self, count: int, length: int) -> Any:
        sizes = _unpacked(self._shared(8 * count)[: 8 * count])
        sizes = (8 * count, length, *sizes)
        places, size = _laid_out(sizes)
        shared = self._shared(size)
        _, text, *arrays = (
            shared[place : place + each] for place, each in zip(places, sizes, strict=True)
        )
        return pickle.loads(text, buffers=arrays)

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

    def _fill(self, flags: int) -> None:
        try:
            while self._missing:
                if not self._ahead and len(self._missing) < AHEAD:
                    self._ahead = self._some(self._end.recv(AHEAD, flags))
                if self._ahead:
                    some = min(len(self._missing), len(self._ahead))
                    self._missing[:some] = self._ahead[:some]
                    self._ahead = self._ahead[some:]
                else:
                    some = self._some(self._end.recv_into(self._missing, flags=flags))
                self._missing = self._missing[some:]
        except BlockingIOError:
            raise
        except OSError as error:
            raise Closed(str(error)) from error

    def _some(self, received: T) -> T:
        if not received:
            raise Closed("the other end has closed")
        return received


def _taken_apart(value: Any) -> tuple[bytes, list[memoryview]]:
    """The pickle of ``value``, and the arrays that were left out of it."""
    left_out: list[pickle.PickleBuffer] = []
    text = pickle.dumps(value, protocol=5, buffer_callback=left_out.append)
    return text, [each.raw() for each in left_out]


def _sizes(arrays: Sequence[memoryview]) -> bytes:
    return struct.pack(f"<{len(arrays)}Q", *map(len, arrays))


def _unpacked(sizes: bytearray | memoryview) -> tuple[int, ...]:
    return struct.unpack(f"<{len(sizes) // 8}Q", sizes)


def _laid_out(sizes: Iterable[int]) -> tuple[list[int], int]:
    """Where pieces of so many bytes begin, one after the other, and where the last one ends."""
    places, end = [], 0
    for size in sizes:
        begin = -(-end // ALIGNMENT) * ALIGNMENT
        places.append(begin)
        end = begin + size
    return places, end
