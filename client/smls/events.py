# SPDX-License-Identifier: MIT
"""Server-sent events as they come off a stream. Pure.

The format is the HTML standard's ("Server-sent events", section 9.2.6): lines that end in CR, LF
or both, an empty one after each event, comments behind a colon.
"""

from __future__ import annotations

import re

from attrs import frozen

from smls.errors import BadRecord

MAX_EVENT = 64 * 1024 * 1024
"""Bytes of one event; a snapshot of a thousand nodes has less than one MB."""

_LINE_END = re.compile(rb"\r\n|\n|\r")


@frozen
class Event:
    """One event; ``id`` is the last that was told, in this event or before it."""

    name: str
    data: str
    id: str


class EventParser:
    """Takes a stream's bytes in pieces of any size and gives the events that they complete.

    ``comments`` is how many have come: they show that the stream lives.
    """

    def __init__(self) -> None:
        self.comments = 0
        self._pending = bytearray()
        self._searched = 0
        self._after_cr = False
        self._begun = False
        self._size = 0
        self._name = ""
        self._data: list[str] = []
        self._id = ""

    def feed(self, piece: bytes) -> list[Event]:
        """The events that are complete by now and were not before.

        :raises BadRecord: where an event is larger than ``MAX_EVENT``, or is no UTF-8.
        """
        events = []
        for line in self._lines(piece):
            if line:
                self._field(line)
                continue
            if self._data:
                events.append(Event(self._name or "message", "\n".join(self._data), self._id))
            self._name, self._data, self._size = "", [], 0
        if self._size + len(self._pending) > MAX_EVENT:
            raise BadRecord(f"event: got more than {MAX_EVENT} bytes, wanted an end of it")
        return events

    def _lines(self, piece: bytes) -> list[str]:
        if self._after_cr and piece:
            # This LF and the CR before it are one line's end.
            self._after_cr = False
            piece = piece.removeprefix(b"\n")
        pending = self._pending
        pending += piece
        lines, start = [], 0
        for end in _LINE_END.finditer(pending, self._searched):
            lines.append(bytes(pending[start : end.start()]))
            start = end.end()
            self._after_cr = start == len(pending) and end[0] == b"\r"
        del pending[:start]
        self._searched = len(pending)
        self._size += start
        try:
            text = [line.decode() for line in lines]
        except UnicodeDecodeError as error:
            raise BadRecord(f"event: got {error.object[:80]!r}, wanted UTF-8") from error
        if text and not self._begun:
            self._begun = True
            text[0] = text[0].removeprefix("\ufeff")
        return text

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not name:
            self.comments += 1
        elif name == "data":
            self._data.append(value)
        elif name == "event":
            self._name = value
        elif name == "id" and "\0" not in value:
            self._id = value
