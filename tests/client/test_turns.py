# SPDX-License-Identifier: MIT
"""Turns of the reactor, on real descriptors."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from smls.turns import EVENTS, REST_SECONDS, shorten_turns


class Reactor:
    """The part of Twisted's epoll reactor that is looked at."""

    def __init__(self, epoll: select.epoll, waker: socket.socket) -> None:
        self._poller: Any = epoll
        self.waker = waker
        self.now = 0.0

    def seconds(self) -> float:
        return self.now


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


@pytest.fixture
def waker() -> Iterator[tuple[socket.socket, socket.socket]]:
    """What a reactor is woken by: who is readable, and who makes it so."""
    here, there = socket.socketpair()
    with here, there:
        yield here, there


def test_all_that_are_ready_have_their_turn(
    ready: tuple[select.epoll, set[int]], waker: tuple[socket.socket, socket.socket]
) -> None:
    epoll, numbers = ready
    crowds: list[None] = []
    reactor = Reactor(epoll, waker[0])
    shorten_turns(reactor, lambda: crowds.append(None), lambda: False)
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


def test_between_two_looks_it_tells_who_wakes_it_alone(
    ready: tuple[select.epoll, set[int]], waker: tuple[socket.socket, socket.socket]
) -> None:
    epoll, numbers = ready
    here, there = waker
    asked: list[None] = []
    reactor = Reactor(epoll, here)
    shorten_turns(reactor, lambda: None, lambda: asked.append(None) is None)
    epoll.register(here.fileno(), select.EPOLLIN)

    def found(timeout: float) -> int:
        return len(reactor._poller.poll(timeout, len(numbers) + 1))

    assert found(-1) == EVENTS
    there.send(b"x")
    assert reactor._poller.poll(-1, len(numbers)) == [(here.fileno(), select.EPOLLIN)]
    here.recv(1)
    # Nobody wakes it: it rests, and looks then.
    assert found(-1) == EVENTS
    assert found(REST_SECONDS / 10) == EVENTS
    assert len(asked) == 3
    # What is to be done at once is not waited for, and looks that are due are not put off.
    assert found(0) == EVENTS
    reactor.now += REST_SECONDS
    assert found(-1) == EVENTS
    assert len(asked) == 3


def test_other_reactors_stay_as_they_are() -> None:
    shorten_turns(object(), lambda: None, lambda: True)
