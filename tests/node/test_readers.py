# SPDX-License-Identifier: MIT
"""Readers that are looked at out of turn, on real sockets with no reactor that turns."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from smls_node.readers import Readers


class Still:
    """A reactor that has no turn."""

    def __init__(self) -> None:
        self.readers: list[Any] = []
        self.name = "still"

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.remove(reader)


class Reads:
    """Reads one byte, and is open no more."""

    def __init__(self, readers: Readers) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.got = b""
        self._readers = readers
        readers.addReader(self)

    def fileno(self) -> int:
        return self.ours.fileno()

    def doRead(self) -> None:
        self.got += self.ours.recv(1)
        self._readers.removeReader(self)


@pytest.fixture
def still() -> Still:
    return Still()


@pytest.fixture
def both(still: Still) -> Iterator[tuple[Readers, Reads, Reads]]:
    readers = Readers(still)
    first, second = Reads(readers), Reads(readers)
    yield readers, first, second
    for each in (first, second):
        each.ours.close()
        each.theirs.close()


def test_what_is_there_is_read_and_nobody_waits_for_the_rest(
    still: Still, both: tuple[Readers, Reads, Reads]
) -> None:
    readers, first, second = both
    assert still.readers == [first, second]
    readers.look(0.0)
    second.theirs.send(b"ab")
    readers.look(0.0)
    readers.look(0.0)
    assert (first.got, second.got) == (b"", b"a")
    assert still.readers == [first]


def test_who_may_wait_gets_the_first_that_comes(both: tuple[Readers, Reads, Reads]) -> None:
    readers, first, _ = both
    later = threading.Timer(0.05, first.theirs.send, (b"x",))
    later.start()
    readers.look(30.0)
    later.join()
    assert first.got == b"x"


def test_where_nothing_is_open_nobody_waits(still: Still) -> None:
    Readers(still).look(3600.0)


def test_to_others_they_are_the_reactor(still: Still) -> None:
    assert Readers(still).name == "still"
