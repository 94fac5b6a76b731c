# SPDX-License-Identifier: MIT
"""Protobuf's encoding where it is long: numbers and bytes past the library's copies. Pure.

A packed field of fixed-width numbers lies in a message as numpy has it in memory. The encoding is
told in https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Sequence

MAX_FIELDS = 4096
"""A message of more fields is left to the library: looking at each costs a microsecond here."""

_WIDTHS = {1: 8, 5: 4}
_DELIMITED = 2


def cut(data: bytes, number: int) -> tuple[bytes, list[memoryview]]:
    """``data``, a message, without its fields ``number``, and these, which lie in it uncopied.

    Only fields that are strings, bytes, messages or packed numbers are cut out. Where ``data`` is
    no message, or has too many fields, all of it comes back as it is.

    >>> rest, cuts = cut(b"\\x0a\\x02hi\\x10\\x05", 1)
    >>> rest, bytes(cuts[0])
    (b'\\x10\\x05', b'hi')
    """
    view = memoryview(data)
    kept: list[memoryview] = []
    cuts: list[memoryview] = []
    begin = at = 0
    try:
        for _ in range(MAX_FIELDS):
            if at >= len(data):
                kept.append(view[begin:])
                return b"".join(kept), cuts
            start = at
            tag, at = _varint(data, at)
            kind = tag & 7
            if kind == _DELIMITED:
                length, at = _varint(data, at)
                if at + length > len(data):
                    break
                if tag >> 3 == number:
                    kept.append(view[begin:start])
                    cuts.append(view[at : at + length])
                    begin = at + length
                at += length
            elif kind == 0:
                _, at = _varint(data, at)
            elif kind in _WIDTHS:
                at += _WIDTHS[kind]
            else:
                break
    except (IndexError, ValueError):
        pass
    return data, []


def delimited(number: int, content: bytes) -> bytes:
    """The field ``number`` of a message, holding ``content``.

    >>> delimited(1, b"hi")
    b'\\n\\x02hi'
    """
    return head(number, len(content)) + content


def head(number: int, size_bytes: int) -> bytes:
    """What stands before so many bytes that are the field ``number`` of a message."""
    return _as_varint(number << 3 | _DELIMITED) + _as_varint(size_bytes)


def joined(cuts: Sequence[memoryview]) -> memoryview:
    """What was cut out, as one; a packed field may be sent in pieces."""
    return cuts[0] if len(cuts) == 1 else memoryview(b"".join(cuts))


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at ``at``, and where it ends."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _as_varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
