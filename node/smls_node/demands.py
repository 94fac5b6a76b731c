# SPDX-License-Identifier: MIT
"""What was asked for while a node serves: models to be loaded or unloaded, and who waits for it.

The laws:

- What was unloaded on demand stays so until it is asked for, or its folder is gone.
- Who asks is answered once all versions of the model are settled; of a model that nobody has
  found yet, at the earliest after ``LOOKS`` looks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import define, field
from twisted.internet.defer import Deferred

from smls.errors import ModelNotFound, ModelUnusable, Overloaded
from smls_node.versions import Edition, Standing, State, Versions, is_settled

LOOKS = 2
"""A folder that has just come counts from the second look on that finds it."""

UNLOADED = "it was unloaded on demand"


@define(eq=False)
class _Asked:
    """Who waits until the model ``name`` is loaded, or gone, for so many looks at least."""

    name: str
    is_wanted: bool
    looks: int
    done: Deferred[None] = field(factory=Deferred)


class Demands:
    """What was asked of the ``versions`` of models that are found; nothing was at first."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self._found: tuple[Edition, ...] = ()
        self._put_away: set[str] = set()
        self._asked: list[_Asked] = []

    def load(self, name: str) -> Deferred[None]:
        """Wants the model where it was unloaded, and what failed of it again.

        It fails with ``ModelNotFound`` where nobody finds it, ``ModelUnusable`` where a version of
        it cannot be loaded, and ``Overloaded`` where it is unloaded meanwhile.
        """
        self._put_away.discard(name)
        self._versions.retry(name)
        return self._ask(name, is_wanted=True)

    def unload(self, name: str) -> Deferred[None]:
        """Wants the model no more. It fails with ``ModelNotFound`` where nobody finds it."""
        self._put_away.add(name)
        return self._ask(name, is_wanted=False)

    def found(self, editions: tuple[Edition, ...]) -> None:
        """Notes what one look more has found."""
        self._found = editions
        for asked in self._asked:
            asked.looks -= 1

    @property
    def wanted(self) -> Iterator[Edition]:
        """What was found and not unloaded."""
        return (each for each in self._found if each.name not in self._put_away)

    @property
    def absent(self) -> Iterator[Standing]:
        """The standings of what was found, was unloaded, and is gone by now."""
        for edition in self._found:
            name = edition.name
            if name in self._put_away and not self._versions.standings_of(name):
                yield Standing(name, edition.version, State.END, UNLOADED)

    def answer(self) -> None:
        """Tells those who asked for what is settled."""
        for asked in list(self._asked):
            standings = self._versions.standings_of(asked.name)
            if asked.looks <= 0 and all(map(is_settled, standings)):
                self._asked.remove(asked)
                self._tell(asked, standings)

    def stop(self) -> None:
        """Tells all who wait that nothing comes of it."""
        asked, self._asked = self._asked, []
        for each in asked:
            each.done.errback(Overloaded("the node is stopping; ask another one"))

    def _ask(self, name: str, *, is_wanted: bool) -> Deferred[None]:
        asked = _Asked(name, is_wanted, 0 if self._is_found(name) else LOOKS)
        self._asked.append(asked)
        return asked.done

    def _is_found(self, name: str) -> bool:
        return any(edition.name == name for edition in self._found)

    def _tell(self, asked: _Asked, standings: Iterable[Standing]) -> None:
        failed = [each for each in standings if each.state is State.END]
        if not self._is_found(asked.name):
            self._put_away.discard(asked.name)
            asked.done.errback(ModelNotFound(f"model {asked.name}: no folder has it"))
        elif asked.is_wanted and asked.name in self._put_away:
            asked.done.errback(Overloaded(f"model {asked.name} was unloaded meanwhile"))
        elif asked.is_wanted and failed:
            told = "; ".join(f"version {each.version}: {each.why}" for each in failed)
            asked.done.errback(ModelUnusable(f"model {asked.name}: {told}"))
        else:
            asked.done.callback(None)
