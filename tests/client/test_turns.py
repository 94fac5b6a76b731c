# SPDX-License-Identifier: MIT
"""Turns of the reactor, on real descriptors."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from smls.turns import EVENTS, shorten_turns

SAFE_SECONDS = 30.0


class Reactor:
    """The part of Twisted's epoll reactor that is looked at."""

    def __init__(self, epoll: select.epoll, waker: socket.socket) -> None:
        self._poller: Any = epoll
        self.waker = waker


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
    shorten_turns(reactor, lambda: crowds.append(None), lambda is_crowded: False)
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


def test_it_rests_until_it_is_woken(
    ready: tuple[select.epoll, set[int]],
    waker: tuple[socket.socket, socket.socket],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("smls.turns.REST_SECONDS", SAFE_SECONDS)
    epoll, numbers = ready
    asked: list[bool] = []
    reactor = Reactor(epoll, waker[0])
    shorten_turns(reactor, lambda: None, lambda is_crowded: asked.append(is_crowded) is None)
    found: list[list[tuple[int, int]]] = []
    turn = threading.Thread(target=lambda: found.append(reactor._poller.poll(-1, len(numbers))))
    turn.start()
    # All are ready, and it rests.
    turn.join(0.05)
    assert turn.is_alive()
    waker[1].send(b"x")
    turn.join(SAFE_SECONDS)
    assert len(found[0]) == EVENTS
    # Woken still, it looks at once.
    assert len(reactor._poller.poll(SAFE_SECONDS, len(numbers))) == EVENTS
    assert asked == [False, True]


def test_it_rests_no_longer_than_it_may(
    ready: tuple[select.epoll, set[int]], waker: tuple[socket.socket, socket.socket]
) -> None:
    epoll, numbers = ready
    reactor = Reactor(epoll, waker[0])
    may: list[bool] = []
    shorten_turns(reactor, lambda: None, lambda is_crowded: may.append(True) is None)
    # Where something is to be done at once nobody asks whether it may rest.
    assert len(reactor._poller.poll(0, len(numbers))) == EVENTS
    assert may == []
    assert len(reactor._poller.poll(-1, len(numbers))) == EVENTS
    assert len(reactor._poller.poll(0.001, len(numbers))) == EVENTS
    assert may == [True, True]


def test_other_reactors_stay_as_they_are() -> None:
    shorten_turns(object(), lambda: None, lambda is_crowded: True)
