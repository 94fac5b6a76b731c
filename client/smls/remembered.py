# SPDX-License-Identifier: MIT
"""The last known nodes on disk, for a client that starts while no registry answers.

There is one file for each set of registries, and what it holds is what each registry told last.
A file that cannot be read or written is logged, and does no other harm.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from smls.errors import BadRecord
from smls.merged import Told
from smls.wire import Listing, check_name, listing_from_json, listing_to_json

SAVE_SECONDS = 1.0
"""A list that changes all the time is written once in so long."""


def to_json(told: Mapping[str, Told]) -> dict[str, Any]:
    """What the registries told, as what ``json.dumps`` takes."""
    return {
        registry: {
            "history": each.history,
            **listing_to_json(Listing(each.revision, tuple(each.nodes.values()))),
        }
        for registry, each in told.items()
    }


def from_json(value: object) -> dict[str, Told]:
    """What the registries told, from parsed JSON.

    :raises BadRecord: where a value is missing or mistyped.
    """
    if not isinstance(value, dict):
        raise BadRecord(f"got {type(value).__name__}, wanted a JSON object")
    found = {}
    for registry, fields in value.items():
        listing = listing_from_json(fields)
        found[registry] = Told.of(check_name("history", fields.get("history")), listing)
    return found


class Remembered:
    """The lists of ``registries`` in a file in ``folder``, read and written in threads."""

    _log = Logger()

    def __init__(self, reactor: Any, folder: Path, registries: Iterable[str]) -> None:
        names = "\n".join(sorted(registries)).encode()
        self.file = folder / f"nodes-{hashlib.sha256(names).hexdigest()[:16]}.json"
        self._reactor = reactor
        self._unsaved: dict[str, Told] | None = None
        self._timer: IDelayedCall | None = None
        self._saving: Deferred[None] = succeed(None)
        self._failed = False

    def load(self) -> Deferred[dict[str, Told]]:
        """What was told in a former life; nothing where there was none. It never fails."""
        return self._in_thread(self._read).addErrback(self._unreadable)

    def save(self, told: Mapping[str, Told]) -> None:
        """Writes it: the first at once, then no more than the last in ``SAVE_SECONDS``."""
        self._unsaved = dict(told)
        if self._timer is None:
            self._timer = self._reactor.callLater(SAVE_SECONDS, self._tick)
            self._write_unsaved()

    def close(self) -> Deferred[None]:
        """Fires when the last list is written; it never fails."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return self._write_unsaved()

    def _tick(self) -> None:
        self._timer = None
        if self._unsaved is not None:
            self.save(self._unsaved)

    def _write_unsaved(self) -> Deferred[None]:
        told, self._unsaved = self._unsaved, None
        if told is not None:
            # One after the other, for a thread may be slow.
            self._saving.addCallback(lambda _: self._in_thread(self._write, told))
            self._saving.addCallbacks(self._written, self._unwritable)
        written: Deferred[None] = Deferred()
        self._saving.addCallback(written.callback)
        return written

    def _in_thread(self, step: Any, *arguments: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), step, *arguments)

    def _read(self) -> dict[str, Told]:
        try:
            text = self.file.read_bytes()
        except FileNotFoundError:
            return {}
        try:
            return from_json(json.loads(text))
        except RecursionError as error:
            raise BadRecord("too deep") from error

    def _write(self, told: Mapping[str, Told]) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own, for other clients may write at the same time.
        with NamedTemporaryFile("w", dir=self.file.parent, prefix=".nodes-", delete=False) as new:
            try:
                json.dump(to_json(told), new)
                new.close()
                os.replace(new.name, self.file)
            except BaseException:
                os.unlink(new.name)
                raise

    def _written(self, _: object) -> None:
        self._failed = False

    def _unwritable(self, failure: Failure) -> None:
        if not self._failed:
            self._log.warn(
                "the list of nodes is not kept: {file}: {reason}",
                file=str(self.file),
                reason=failure.getErrorMessage(),
            )
        self._failed = True

    def _unreadable(self, failure: Failure) -> dict[str, Told]:
        self._log.warn(
            "the nodes in {file} are ignored: {reason}",
            file=str(self.file),
            reason=failure.getErrorMessage(),
        )
        return {}
