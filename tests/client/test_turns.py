# SPDX-License-Identifier: MIT
"""Turns of the reactor, on real descriptors."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from smls.turns import EVENTS, shorten_turns


class Reactor:
    """The part of Twisted's epoll reactor that is looked at."""

    def __init__(self, epoll: select.epoll) -> None:
        self._poller = epoll


@pytest.fixture
def ready() -> Iterator[tuple[select.epoll, set[int]]]:
    """An epoll object, and more descriptors than a turn takes, all readable."""
    with ExitStack() as stack:
        epoll = stack.enter_context(select.epoll())
        numbers = set()
        for _ in range(2 * EVENTS + 1):
            here, there = socket.socketpair()
            stack.enter_context(here)
            stack.enter_context(there)
            there.send(b"x")
            epoll.register(here.fileno(), select.EPOLLIN)
            numbers.add(here.fileno())
        yield epoll, numbers


def test_all_that_are_ready_have_their_turn(ready: tuple[select.epoll, set[int]]) -> None:
    epoll, numbers = ready
    crowds: list[None] = []
    reactor = Reactor(epoll)
    shorten_turns(reactor, lambda: crowds.append(None))
    seen: set[int] = set()
    for _ in range(3):
        found = reactor._poller.poll(0, len(numbers))
        assert len(found) == EVENTS
        seen.update(number for number, _ in found)
    assert seen == numbers
    assert len(crowds) == 3
    for number in numbers:
        reactor._poller.unregister(number)
    assert reactor._poller.poll(0, len(numbers)) == []
    assert len(crowds) == 3


def test_other_reactors_stay_as_they_are() -> None:
    shorten_turns(object(), lambda: None)
