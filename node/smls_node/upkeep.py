# SPDX-License-Identifier: MIT
"""Keeps the models that are served as their folders say, while they are served.

A look each second, in a thread; one version loaded after the other, each in a thread of its own,
since nothing can end a thread that hangs; what is replaced answers what it has, and is then
unloaded. ``repository`` and ``versions`` say what is to be done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from smls.errors import ModelUnusable, SmlsError
from smls_node import repository
from smls_node.catalogue import Catalogue, Model
from smls_node.demands import Demands
from smls_node.repository import Parts, Seen, Source
from smls_node.settings import ModelSettings
from smls_node.versions import Edition, State, Versions

LOOK_SECONDS = 1.0
"""Between two looks: what is there is noticed by the second one after it, within 2 s."""

PATIENCE_SECONDS = 30.0
"""A load that takes longer is told of, and others begin beside it: in a process of its own
TensorFlow and a graph of 100 MB take 5 s on a busy box."""

STARTING_PATIENCE_SECONDS = 240.0
"""How long others wait for it before the node is ready, which then goes on without it. Two loads at
once would be measured wrongly, and a proof may take 180 s."""

LEAVING_SECONDS = 5.0
"""How long the thread of a load that was given up may take to end, with its process killed."""


@define(eq=False)
class _Load:
    """One try to load an edition. ``given_up`` is done soon after nobody wants it any more."""

    edition: Edition
    given_up: Future[None] = field(factory=Future)
    is_given_up: bool = False


class Upkeep:
    """From ``start`` to ``stop``; all on the reactor's thread.

    ``load`` gives a model, warmed up, in one of ``threads``, and knows of the version of it that
    is served, if one is; it ends soon after the future that it gets is done, if it can. ``serve``
    is called with the model. What a model still has to answer when it is dropped
    has ``drain_seconds``. ``changed`` is called after each change in what ``Catalogue.records``
    gives. ``defaults`` hold for what no model's own settings say.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        sources: Sequence[Source],
        defaults: ModelSettings,
        catalogue: Catalogue,
        *,
        load: Callable[[ModelSettings, Model | None, Future[None]], Model],
        serve: Callable[[Model], None],
        changed: Callable[[], None],
        drain_seconds: float,
        threads: Any,
    ) -> None:
        self._reactor = reactor
        self._sources = sources
        self._defaults = defaults
        self._catalogue = catalogue
        self._load = load
        self._serve = serve
        self._changed = changed
        self._drain_seconds = drain_seconds
        self._threads = threads
        self._taken = frozenset(model.name for model in catalogue.models)
        self._versions = Versions()
        self._demands = Demands(self._versions)
        self._models: dict[Edition, Model] = {}
        self._loads: dict[Edition, _Load] = {}
        self._late: frozenset[Edition] = frozenset()
        self._seen: Seen | None = None
        self._parts: Parts = {}
        self._told: frozenset[str] = frozenset()
        self._settled: Deferred[None] | None = Deferred()
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor
        # Apart from the looks, which a dead mount may hold up.
        self._going_on = LoopingCall(self._go_on)
        self._going_on.clock = reactor

    def start(self) -> Deferred[None]:
        """Looks, and goes on doing so; fires when what was there is loaded, or has failed."""
        assert self._settled is not None
        settled = self._settled
        self._looking.start(LOOK_SECONDS)
        return settled

    def stop(self) -> None:
        """Looks no more, and begins no load; who waits for one is told."""
        for loop in (self._looking, self._going_on):
            if loop.running:
                loop.stop()
        self._demands.stop()

    def load(self, name: str) -> Deferred[None]:
        """Loads the model ``name`` where it was unloaded, or what failed of it again; fires when
        all that is wanted of it is there.

        It fails with ``ModelNotFound`` where no folder has the model, and ``ModelUnusable`` where
        a version of it cannot be loaded.
        """
        if name in self._taken:
            return succeed(None)
        return self._asked(self._demands.load(name))

    def unload(self, name: str) -> Deferred[None]:
        """Drops the model ``name``, or ends its loading, and keeps it so until it is loaded; fires
        when it is gone.

        It fails with ``ModelNotFound`` where no folder has the model, and ``ModelUnusable`` where
        it is one of the command line's.
        """
        if name in self._taken:
            return fail(ModelUnusable(f"model {name} is of the command line, and stays"))
        return self._asked(self._demands.unload(name))

    def _asked(self, done: Deferred[None]) -> Deferred[None]:
        self._want()
        return done

    @property
    def is_busy(self) -> bool:
        """Whether a thread loads or unloads."""
        return any(
            each.state in (State.LOADING, State.UNLOADING) for each in self._versions.standings
        )

    def _look(self) -> Deferred[None]:
        looked = self._in_thread(repository.look, self._sources)
        return looked.addCallback(self._found).addErrback(self._lost)

    def _found(self, now: Seen) -> None:
        before, self._seen = self._seen, now
        if before is None:
            return
        if self._looking.running and not self._going_on.running:
            self._going_on.start(LOOK_SECONDS, now=False)
        self._parts = repository.settle(self._parts, before, now)
        found = repository.wanted(self._parts, self._sources, self._defaults, self._taken)
        unreadable = (f"{path} cannot be read: {why}" for path, why in now.unreadable.items())
        self._tell([*found.notes, *unreadable])
        self._demands.found(found.editions)
        self._catalogue.label(found.labels)
        self._want()

    def _want(self) -> None:
        self._versions.want(self._demands.wanted)
        self._go_on()

    def _lost(self, failure: Failure) -> None:
        if not failure.check(OSError):
            self.log.failure("a look at the models failed", failure)
            return
        self._tell([f"the models cannot be looked at: {failure.value}"])

    def _tell(self, notes: Iterable[str]) -> None:
        """Logs each note once, and again where it comes back."""
        new = frozenset(notes)
        for note in sorted(new - self._told):
            self.log.warn("{note}", note=note)
        self._told = new

    def _go_on(self) -> None:
        """Does what the versions ask for now, and tells what has changed."""
        now = self._reactor.seconds()
        while self._looking.running and (edition := self._versions.to_drop()) is not None:
            self._drop(edition)
        while (edition := self._versions.to_give_up()) is not None:
            self._give_up(self._loads[edition])
        self._tell_late(self._versions.late(now, PATIENCE_SECONDS))
        if (
            self._looking.running
            and (edition := self._versions.to_load(now, self._patience)) is not None
        ):
            self._begin(edition)
        if self._catalogue.stand((*self._versions.standings, *self._demands.absent)):
            self._changed()
        self._demands.answer()
        if self._settled is not None and self._versions.is_settled(now, self._patience):
            settled, self._settled = self._settled, None
            settled.callback(None)

    @property
    def _patience(self) -> float:
        return PATIENCE_SECONDS if self._settled is None else STARTING_PATIENCE_SECONDS

    def _tell_late(self, late: Iterable[Edition]) -> None:
        """Logs once of each that it is late."""
        now = frozenset(late)
        for edition in now - self._late:
            self.log.warn(
                "model {model} version {version} is still loading after {seconds:.0f} s; others "
                "wait for it no longer than {patience:.0f} s, and unloading it ends this",
                model=edition.name,
                version=edition.version,
                seconds=PATIENCE_SECONDS,
                patience=self._patience,
            )
        self._late = now

    def _begin(self, edition: Edition) -> None:
        served = self._catalogue.served(edition.name)
        self.log.info(
            "model {model} version {version}: loading", model=edition.name, version=edition.version
        )

        loading = self._loads[edition] = _Load(edition)

        def load() -> Model:
            if edition.problem:
                raise ModelUnusable(edition.problem)
            return self._load(edition.settings, served, loading.given_up)

        loaded = deferToThreadPool(self._reactor, self._threads, load)
        loaded.addCallbacks(self._loaded, self._failed, (loading,), {}, (loading,))
        loaded.addErrback(self._faulty)

    def _give_up(self, loading: _Load) -> None:
        self.log.info(
            "model {model} version {version} is not wanted any more, and its loading is given up",
            model=loading.edition.name,
            version=loading.edition.version,
        )
        loading.is_given_up = True
        # In a thread: ending a process may block.
        ending = deferToThreadPool(self._reactor, self._threads, loading.given_up.set_result, None)
        ending.addErrback(self._faulty)
        self._reactor.callLater(LEAVING_SECONDS, self._leave, loading)

    def _leave(self, loading: _Load) -> None:
        """Waits no more for a load that was given up, where it hangs beyond anybody's reach."""
        edition = loading.edition
        if self._loads.get(edition) is not loading:
            return
        self.log.error(
            "the loading of model {model} version {version} hangs in the node's own process, and "
            "is left behind with its thread",
            model=edition.name,
            version=edition.version,
        )
        self._end_load(loading, "its loading hangs, and was left behind")

    def _end_load(self, loading: _Load, why: str) -> None:
        del self._loads[loading.edition]
        self._versions.failed(loading.edition, why)
        self._go_on()

    def _loaded(self, model: Model, loading: _Load) -> None:
        edition = loading.edition
        is_left = self._loads.get(edition) is not loading
        if is_left or loading.is_given_up:
            self._in_thread(model.give_back).addErrback(self._faulty)
            if not is_left:
                self._end_load(loading, "its loading was given up")
            return
        del self._loads[edition]
        self._models[edition] = model
        self._serve(model)
        self._versions.loaded(edition)
        self._go_on()

    def _failed(self, failure: Failure, loading: _Load) -> None:
        edition, error = loading.edition, failure.value
        if self._loads.get(edition) is not loading:
            return
        why = error.message if isinstance(error, SmlsError) else f"{failure.type}: {error}"
        if not loading.is_given_up:
            self.log.error(
                "model {model} version {version} cannot be served: {why}",
                model=edition.name,
                version=edition.version,
                why=why,
                **({} if isinstance(error, SmlsError) else {"log_failure": failure}),
            )
        self._end_load(loading, why)

    def _drop(self, edition: Edition) -> None:
        model = self._models.pop(edition)
        self._catalogue.remove(model)

        def unload() -> bool:
            if model.workers.stop(self._drain_seconds):
                model.give_back()
                return True
            return False

        dropping = self._in_thread(unload)
        dropping.addCallbacks(self._dropped, self._stuck, (edition,), {}, (edition,))
        dropping.addErrback(self._faulty)

    def _dropped(self, is_gone: bool, edition: Edition) -> None:
        if is_gone:
            self.log.info(
                "model {model} version {version}: unloaded",
                model=edition.name,
                version=edition.version,
            )
        else:
            self.log.error(
                "model {model} version {version} still runs after {seconds} s, and is left behind "
                "with its memory",
                model=edition.name,
                version=edition.version,
                seconds=self._drain_seconds,
            )
        self._versions.dropped(edition)
        self._go_on()

    def _stuck(self, failure: Failure, edition: Edition) -> None:
        self.log.failure(
            "model {model} version {version} could not be unloaded",
            failure,
            model=edition.name,
            version=edition.version,
        )
        self._versions.dropped(edition)
        self._go_on()

    def _faulty(self, failure: Failure) -> None:
        self.log.failure("the upkeep of the models failed", failure)

    def _in_thread(self, work: Callable[..., Any], *given: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work, *given)
