# SPDX-License-Identifier: MIT
"""A request's body out of its gzip or zlib file, piece by piece and within a bound.

The latter is what HTTP calls ``deflate`` (RFC 9110, 8.4.1.2). Which of the two it is the file
says itself.
"""

from __future__ import annotations

import zlib

from smls.errors import BadRequest, TooLarge

_EITHER = 32 + zlib.MAX_WBITS


class Inflate:
    """Takes a file as it arrives. ``most_bytes`` is what it may hold, whatever it claims: a
    few kilobytes can stand for gigabytes."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._held = 0
        self._file = zlib.decompressobj(_EITHER)

    def take(self, data: bytes) -> bytes:
        """What ``data``, the next bytes of the file, hold.

        :raises TooLarge: where the file holds more than it may.
        :raises BadRequest: where it is no such file, or goes on after its end.
        """
        if self._file.eof and data:
            raise BadRequest("Content-Encoding: the body goes on after the end of its file")
        try:
            found = self._file.decompress(data, self._most - self._held + 1)
        except zlib.error as error:
            raise BadRequest(
                f"Content-Encoding: the body is no gzip or zlib file: {error}"
            ) from None
        self._held += len(found)
        if self._held > self._most:
            raise TooLarge(f"the body holds more than the {self._most} bytes that are allowed")
        if self._file.unused_data:
            raise BadRequest("Content-Encoding: the body goes on after the end of its file")
        return found

    def end(self) -> None:
        """Notes that nothing more comes.

        :raises BadRequest: where the file is not whole.
        """
        if not self._file.eof:
            raise BadRequest("Content-Encoding: the body's file is cut short")
