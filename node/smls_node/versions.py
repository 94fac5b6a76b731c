# SPDX-License-Identifier: MIT
"""Which versions of the models in a folder are loaded, and which are dropped, and when.

The laws:

- A version's states follow ``FOLLOWING``; one that fails to load ends, with the reason.
- One version is loaded at a time; but one that takes longer than the patience that there is for
  it holds up no other.
- What is no longer wanted while it is loaded is given up, once. What is left of it is not wanted
  back: where it is wanted again, it is loaded anew.
- A version that is no longer wanted is dropped when no wanted one of its model is still to be
  loaded and one of them is there. Where its own files were replaced, what replaced it must be
  there. Where none can be loaded, the old one stays. (TensorFlow Serving's "availability
  preserving policy".)
- A model of which nothing is wanted any more is dropped.
- What has failed is tried again when its files or settings have changed, and then alone.

Pure. Not safe for threads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum

from attrs import define, frozen

from smls_node.settings import ModelSettings

MAX_VERSION = 2**63 - 1
"""TensorFlow Serving's versions are of 64 bits."""


class State(StrEnum):
    """The states that TensorFlow Serving names."""

    START = "START"
    LOADING = "LOADING"
    AVAILABLE = "AVAILABLE"
    UNLOADING = "UNLOADING"
    END = "END"


FOLLOWING: dict[State, frozenset[State]] = {
    State.START: frozenset({State.LOADING, State.END}),
    State.LOADING: frozenset({State.AVAILABLE, State.END}),
    State.AVAILABLE: frozenset({State.UNLOADING}),
    State.UNLOADING: frozenset({State.END}),
    State.END: frozenset(),
}
"""What may follow each state."""


@frozen
class Policy:
    """Which of the versions that lie there are wanted: the ``latest`` so many, the ``specific``
    ones where any are named, or all of them where ``latest`` is ``None``."""

    latest: int | None = 1
    specific: frozenset[int] = frozenset()

    def chosen(self, numbers: Iterable[int]) -> tuple[int, ...]:
        """The wanted ones, in their order.

        >>> Policy(2).chosen([1, 10, 9])
        (9, 10)
        """
        there = sorted(set(numbers))
        if self.specific:
            return tuple(number for number in there if number in self.specific)
        return tuple(there if self.latest is None else there[-self.latest :])


def policy_from(text: str) -> Policy:
    """The policy that ``text`` names: ``latest:N``, ``all`` or ``specific:1,3``.

    >>> policy_from("specific:1,3").chosen([1, 2, 3])
    (1, 3)

    :raises ValueError: where it is none of these.
    """
    if text == "all":
        return Policy(None)
    match = re.fullmatch(r"latest:([1-9][0-9]{0,8})|specific:([0-9]{1,19}(?:,[0-9]{1,19})*)", text)
    if match is None:
        raise ValueError(text)
    if match[1]:
        return Policy(int(match[1]))
    return Policy(None, frozenset(map(int, match[2].split(","))))


@frozen
class Edition:
    """One version of a model as it lies there; other files or other settings are another edition.

    ``stamps`` tell its files from others of the same names. ``problem`` says why it cannot be
    loaded, where that is known without a try.
    """

    settings: ModelSettings
    stamps: tuple[object, ...] = ()
    problem: str = ""

    @property
    def name(self) -> str:
        assert self.settings.name is not None
        return self.settings.name

    @property
    def version(self) -> str:
        return self.settings.version


@frozen
class Standing:
    """The state that a version is in; ``why`` says what it failed of, empty where it did not, and
    ``since`` when its loading began, as ``now`` was given, 0 before."""

    name: str
    version: str
    state: State
    why: str = ""
    since: float = 0.0


@define(eq=False)
class _Entry:
    state: State = State.START
    why: str = ""
    since: float = 0.0
    is_given_up: bool = False

    def is_late(self, now: float, patience: float) -> bool:
        return self.state is State.LOADING and now - self.since >= patience

    def move(self, state: State, why: str = "") -> None:
        assert state in FOLLOWING[self.state], f"{self.state} to {state}"
        self.state, self.why = state, why


def is_settled(standing: Standing) -> bool:
    """Whether it is not being loaded or dropped, nor still to be."""
    return standing.state in (State.AVAILABLE, State.END)


class Versions:
    """The versions that are wanted, and those that are still there."""

    def __init__(self) -> None:
        self._entries: dict[Edition, _Entry] = {}
        self._wanted: tuple[Edition, ...] = ()

    @property
    def standings(self) -> tuple[Standing, ...]:
        return tuple(
            Standing(edition.name, edition.version, entry.state, entry.why, entry.since)
            for edition, entry in self._entries.items()
        )

    def is_settled(self, now: float, patience: float) -> bool:
        """Whether nothing is being loaded or dropped, or is still to be, but what is late."""
        return all(
            entry.state in (State.AVAILABLE, State.END) or entry.is_late(now, patience)
            for entry in self._entries.values()
        )

    def late(self, now: float, patience: float) -> tuple[Edition, ...]:
        """What has been loaded for ``patience`` seconds or more, and still is."""
        return tuple(
            edition for edition, entry in self._entries.items() if entry.is_late(now, patience)
        )

    def want(self, editions: Iterable[Edition]) -> None:
        """From now on these are wanted, and no others."""
        self._wanted = tuple(dict.fromkeys(editions))
        for edition, entry in list(self._entries.items()):
            if edition not in self._wanted:
                if entry.state is State.START:
                    entry.move(State.END)
                if entry.state is State.END:
                    del self._entries[edition]
        for edition in self._wanted:
            self._entries.setdefault(edition, _Entry())

    def retry(self, name: str) -> None:
        """Has what failed of the model ``name`` tried again."""
        for edition, entry in self._entries.items():
            if edition.name == name and entry.state is State.END:
                self._entries[edition] = _Entry()

    def standings_of(self, name: str) -> tuple[Standing, ...]:
        """Those of one model."""
        return tuple(each for each in self.standings if each.name == name)

    def to_load(self, now: float, patience: float) -> Edition | None:
        """What is to be loaded now, if anything; ``loaded`` or ``failed`` says what came of it."""
        if any(
            entry.state is State.LOADING and not entry.is_late(now, patience)
            for entry in self._entries.values()
        ):
            return None
        for edition, entry in self._entries.items():
            if entry.state is State.START:
                entry.move(State.LOADING)
                entry.since = now
                return edition
        return None

    def to_give_up(self) -> Edition | None:
        """Whose loading is to be ended now, if any is; ``failed`` says that it has."""
        for edition, entry in self._entries.items():
            is_wanted = edition in self._wanted
            if entry.state is State.LOADING and not entry.is_given_up and not is_wanted:
                entry.is_given_up = True
                return edition
        return None

    def to_drop(self) -> Edition | None:
        """What is to be dropped now, if anything; ``dropped`` says that it is gone."""
        for edition, entry in self._entries.items():
            if entry.state is State.AVAILABLE and self._is_replaced(edition):
                entry.move(State.UNLOADING)
                return edition
        return None

    def loaded(self, edition: Edition) -> None:
        self._entries[edition].move(State.AVAILABLE)

    def failed(self, edition: Edition, why: str) -> None:
        entry = self._entries[edition]
        entry.move(State.END, why)
        if edition not in self._wanted:
            del self._entries[edition]
        elif entry.is_given_up:
            self._entries[edition] = _Entry()

    def dropped(self, edition: Edition) -> None:
        self._entries.pop(edition).move(State.END)
        if edition in self._wanted:
            self._entries[edition] = _Entry()

    def _is_replaced(self, edition: Edition) -> bool:
        """Whether it is not wanted, and what is wanted instead is there."""
        if edition in self._wanted:
            return False
        peers = [each for each in self._wanted if each.name == edition.name]
        states = [self._entries[each].state for each in peers]
        if not peers:
            return True
        if any(state not in (State.AVAILABLE, State.END) for state in states):
            return False
        own = [each for each in peers if each.version == edition.version]
        return any(self._entries[each].state is State.AVAILABLE for each in own or peers)
