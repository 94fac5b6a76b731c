# SPDX-License-Identifier: MIT
"""The first of two that succeeds."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from smls.race import Race


class Final(Exception):
    """Nobody else would say otherwise."""


class Races(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.first: Deferred[str] = Deferred()
        self.second: Deferred[str] = Deferred()
        self.seconds: float | None = 1.0
        self.result = Race(
            self.clock,
            self.first,
            wait=lambda: None if self.seconds is None else self.seconds - self.clock.seconds(),
            second=lambda: self.second,
            final=lambda error: isinstance(error, Final),
        ).result

    def cancelled(self, request: Deferred[Any]) -> bool:
        return request.called and not self.clock.getDelayedCalls()

    def test_the_first_alone(self) -> None:
        self.first.callback("a")
        assert self.successResultOf(self.result) == "a"
        assert not self.clock.getDelayedCalls()

    def test_either_may_win_and_the_other_is_cancelled(self) -> None:
        for winner, loser in ((0, 1), (1, 0)):
            self.setUp()
            self.clock.advance(1)
            both = (self.first, self.second)
            both[winner].callback("a")
            assert self.successResultOf(self.result) == "a"
            assert self.cancelled(both[loser])

    def test_one_failure_leaves_the_race_to_the_other(self) -> None:
        self.clock.advance(1)
        self.first.errback(ValueError())
        self.assertNoResult(self.result)
        self.second.callback("b")
        assert self.successResultOf(self.result) == "b"

    def test_the_last_failure_is_told(self) -> None:
        self.clock.advance(1)
        self.first.errback(ValueError())
        self.second.errback(KeyError())
        self.failureResultOf(self.result, KeyError)

    def test_what_is_final_ends_it_at_once(self) -> None:
        self.clock.advance(1)
        self.first.errback(Final())
        self.failureResultOf(self.result, Final)
        assert self.cancelled(self.second)

    def test_cancelling_it_cancels_both(self) -> None:
        self.clock.advance(1)
        self.result.cancel()
        self.failureResultOf(self.result, CancelledError)
        assert self.cancelled(self.first)
        assert self.cancelled(self.second)

    def test_nothing_is_started_beside_one_that_failed(self) -> None:
        self.first.errback(ValueError())
        self.failureResultOf(self.result, ValueError)
        self.clock.advance(2)
        assert not self.second.called
        assert not self.clock.getDelayedCalls()

    def test_it_is_asked_again_as_long_as_there_is_time_to_wait(self) -> None:
        self.seconds = 3.0
        self.clock.advance(2)
        self.seconds = 4.0
        self.clock.advance(1)
        assert len(self.clock.getDelayedCalls()) == 1
        self.seconds = None
        self.clock.advance(1)
        assert not self.clock.getDelayedCalls()
