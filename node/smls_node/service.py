# SPDX-License-Identifier: MIT
"""A node's life: listen, load, be ready and announced; withdraw, drain, stop."""

from __future__ import annotations

import gc
import os
import socket
import sys
import time
from functools import partial
from importlib import import_module
from importlib.metadata import version
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import inlineCallbacks
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from smls import program
from smls.address import Advertise
from smls.errors import ModelNotFound, SmlsError
from smls.wire import NodeRecord, join_address
from smls_node import loading, machine, repository
from smls_node.catalogue import Catalogue, Model
from smls_node.faces.app import make_site
from smls_node.faces.terms import Terms
from smls_node.loader import Loader
from smls_node.nodesettings import NodeSettings, settings_of
from smls_node.serving import Phase, Serving
from smls_node.stall import StallWatch
from smls_node.threads import OwnThreads
from smls_node.upkeep import Upkeep

if TYPE_CHECKING:
    from smls_node.announcement import Announcement
    from smls_node.faces.grpc.server import GrpcServer

DEADLINE_SECONDS = 0.05
"""How often it is looked whose deadline has come: an answer of 504 is late by so much at most."""

PACE_SECONDS = 0.025
"""How often it is looked whether a batch runs late: clients hear of it before they notice."""

WATCH_SECONDS = 0.25
"""How often it is looked whether models can answer: readiness and registries know within 1 s."""


class NodeService(Service):
    """One node, on one port for HTTP and perhaps one for gRPC. ``exit_status`` is 1 once it has
    failed."""

    log = Logger()

    def __init__(self, reactor: Any, settings: NodeSettings) -> None:
        self.exit_status = 0
        self._loading = False
        self._id = token_hex(8)
        self._reactor = reactor
        self._settings = settings
        self._serving = Serving(Catalogue(settings.default_model), time.monotonic)
        self._parsers = ThreadPool(0, machine.cores(), name="parse")
        self._grpc = self._make_grpc()
        self._site = make_site(
            self._serving,
            reactor,
            Terms(settings.request_timeout, partial(deferToThreadPool, reactor, self._parsers)),
            version=version(program.DISTRIBUTION),
            max_upload=settings.max_upload,
            origins=settings.origins,
            calls=self._grpc.traffic if self._grpc else None,
        )
        self._loader = Loader(reactor, self._serving, settings)
        self._deadlines = LoopingCall(self._serving.expire)
        self._deadlines.clock = reactor
        self._pacing = LoopingCall(self._look_at_pace)
        self._pacing.clock = reactor
        self._watching = LoopingCall(self._watch)
        self._watching.clock = reactor
        self._stalls = StallWatch(reactor)
        self._port: IListeningPort | None = None
        self._announcement: Announcement | None = None
        self._upkeep: Upkeep | None = None

    def startService(self) -> None:
        """Listens at once and loads in a thread; requests are refused until that is done.

        :raises PortTaken: where the port cannot be had.
        :raises ModelUnusable: where two models have the same name and version, or a folder of
            models is none.
        """
        repository.check(self._settings.sources)
        loading.check_distinct(self._settings.models)
        host = self._settings.host
        self._port = program.listen(self._reactor, self._settings.port, self._site, host)
        if self._grpc is not None:
            self._grpc.start()
        super().startService()  # type: ignore[no-untyped-call]
        self._serving.node = self._settings.node_name or f"{socket.gethostname()}:{self.port}"
        self.log.info(
            "listening on {host} port {port}{grpc}, loading",
            host=host or "all addresses",
            port=self.port,
            grpc=f", for gRPC port {self._grpc.port}" if self._grpc else "",
        )
        self._parsers.start()
        self._stalls.start()
        self._loading = True
        pool = self._reactor.getThreadPool()
        loaded = deferToThreadPool(self._reactor, pool, self._load).addCallback(self._keep_up)
        # In a thread: TensorFlow leaves 300,000 objects that never die; a full collection that
        # looks at them all stops the whole process for 170 ms, again and again. What is loaded
        # later adds a few thousand, which are gone when it is unloaded (``Runtime.unload``).
        loaded.addCallback(lambda _: deferToThreadPool(self._reactor, pool, _freeze))
        loaded.addBoth(self._loaded).addCallback(self._ready).addErrback(self._failed)
        # An HTTP client takes a tenth of a second to import, and is needed when all is loaded.
        # Where that fails, it fails again for who needs it.
        client = deferToThreadPool(self._reactor, pool, import_module, "smls_node.announcement")
        client.addErrback(lambda _: None)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        assert self._port is not None
        host: Any = self._port.getHost()
        return int(host.port)

    @inlineCallbacks
    def stopService(self) -> Any:
        """Withdraws and drains; fires when every request in flight is answered.

        After the drain timeout the process ends at once, with status 1; while the models are
        still being loaded, with status 0.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        if self._loading:
            self.log.info("stopped while loading")
            # Nothing can interrupt the thread that loads, and the reactor would wait for it: for
            # a minute where it measures. Nobody is served yet.
            _end(0)
        if self._announcement is not None:
            yield self._announcement.withdraw()
        self._enter(Phase.DRAINING)
        calls = self._grpc.in_flight if self._grpc else 0
        self.log.info("draining {count} requests", count=len(self._site.in_flight) + calls)
        giving_up = self._reactor.callLater(self._settings.drain_timeout, self._give_up)
        if self._upkeep is not None:
            self._upkeep.stop()
        yield self._site.when_idle()
        if self._grpc is not None:
            yield self._grpc.when_idle()
        giving_up.cancel()
        assert self._port is not None
        yield self._port.stopListening()
        yield self._site.close_connections()
        if self._grpc is not None:
            yield self._grpc.stop()
        for loop in (self._deadlines, self._watching, self._pacing):
            if loop.running:
                loop.stop()
        for model in self._serving.catalogue.models:
            if model.workers.stop():
                model.give_back()
        self._loader.close()
        self._parsers.stop()
        self._stalls.stop()
        self.log.info("stopped")
        if self._upkeep is not None and self._upkeep.is_busy:
            # As while loading at the start: the reactor would wait for that thread.
            _end(0)

    def tell_ready(self, names: str) -> None:
        """Tells whoever has started the node that it is ready with these models."""
        print_ready(self._settings.host, self.port, names)

    def _load(self) -> list[Model]:
        """Blocks: loads the models of the command line."""
        return [self._loader.named(each) for each in self._settings.models]

    def _keep_up(self, models: list[Model]) -> Any:
        """Serves these, and then those in folders; fires when they are loaded too."""
        if not self.running:
            return None
        self._serving.catalogue.stand([])
        for model in models:
            self._serve(model)
        settings = self._settings
        if not settings.sources:
            return None
        self._upkeep = Upkeep(
            self._reactor,
            settings.sources,
            settings.defaults,
            self._serving.catalogue,
            load=self._loader.found,
            serve=self._serve,
            changed=self._changed,
            drain_seconds=settings.drain_timeout,
            threads=OwnThreads(),
        )
        self._serving.control = self._upkeep
        return self._upkeep.start()

    def _serve(self, model: Model) -> None:
        self.log.info(
            "model {model} version {version}: {runs} runs at once of {threads} operator "
            "threads ({why}){where}",
            model=model.name,
            version=model.version,
            runs=model.arrangement.runs,
            threads=model.arrangement.operator_threads or "all",
            why=model.arrangement.why,
            where=f", in {process}" if (process := model.runtime.process) else "",
        )
        model.workers.start()
        self._serving.catalogue.add(model)

    def _watch(self) -> None:
        """Announces it where a model has lost its process, or has one again."""
        if self._serving.catalogue.has_changed():
            self._changed()

    def _look_at_pace(self) -> None:
        """Announces it where a model is slower than it was told to be, or well again."""
        # Each is asked: what is told then tells all.
        if [model for model in self._serving.catalogue.models if model.workers.has_news()]:
            self._watch()

    def _changed(self) -> None:
        if self._announcement is not None and self._serving.phase is Phase.READY:
            self._announcement.update()

    def _loaded(self, result: Any) -> Any:
        self._loading = False
        return result

    def _ready(self, _: Any) -> None:
        if not self.running:
            return
        self._check_default()
        self._deadlines.start(DEADLINE_SECONDS, now=False)
        self._watching.start(WATCH_SECONDS, now=False)
        self._pacing.start(PACE_SECONDS, now=False)
        self._enter(Phase.READY)
        self._announce()
        models = self._serving.catalogue.models
        names = ", ".join(f"{model.name} version {model.version}" for model in models)
        self.tell_ready(names or "no model yet")

    def _enter(self, phase: Phase) -> None:
        self._serving.phase = phase
        if self._grpc is not None:
            self._grpc.tell()

    def _make_grpc(self) -> GrpcServer | None:
        settings = self._settings
        if settings.grpc_port is None:
            return None
        # Importing it needs an extra.
        from smls_node.faces.grpc.server import GrpcServer, GrpcSettings

        return GrpcServer(
            self._serving,
            self._reactor.callFromThread,
            GrpcSettings(
                settings.host,
                settings.grpc_port,
                settings.request_timeout,
                settings.max_upload,
                version(program.DISTRIBUTION),
                settings.shares_grpc_port,
            ),
        )

    def _check_default(self) -> None:
        try:
            self._serving.catalogue.check_default()
        except ModelNotFound as error:
            if not self._settings.sources:
                raise
            # It may still be put into a folder.
            self.log.warn("--default-model: {problem}", problem=error.message)

    def _announce(self) -> None:
        from smls_node.announcement import Announcement

        settings = self._settings
        announcement = self._announcement = Announcement(
            self._reactor,
            settings.registries,
            Advertise(self.port, settings.host, settings.advertise),
            self._record,
            mdns=settings.mdns and not settings.registries,
        )
        announcement.start()

    def _record(self, address: str) -> NodeRecord:
        """The node as it announces itself under ``address``."""
        return NodeRecord(
            id=self._id,
            address=address,
            name=self._serving.node,
            zone=self._settings.zone,
            protocols=("forms", "grpc") if self._grpc else ("forms",),
            grpc_port=self._grpc.port if self._grpc else 0,
            models=self._serving.catalogue.records(),
        )

    def _failed(self, failure: Failure) -> None:
        self.exit_status = 1
        if isinstance(failure.value, SmlsError):
            self.log.critical("{message}", message=failure.value.message)
        else:
            self.log.failure("the node cannot start", failure)
        self._reactor.stop()

    def _give_up(self) -> None:
        for request in self._site.in_flight:
            self.log.error("still in flight: {request}", request=request.summary())
        if self._grpc is not None and self._grpc.in_flight:
            self.log.error("still in flight over gRPC: {count}", count=self._grpc.in_flight)
        self.log.error("gave up draining after {seconds} s", seconds=self._settings.drain_timeout)
        # A thread that hangs in a model would keep a usual exit waiting for ever.
        _end(1)


def make_service(options: Any) -> NodeService:
    """The node that ``smls_node.tap.Options`` describe, on the installed reactor."""
    from twisted.internet import reactor

    return NodeService(reactor, settings_of(options))


def print_ready(host: str, port: int, names: str) -> None:
    """Prints where a node is ready, with the models of these names, and how to ask it."""
    url = f"http://{join_address(host or '127.0.0.1', port)}"
    print(f"smls-node: ready at {url}/ with {names}, listening on {host or 'all addresses'}")
    print(f"try: curl -F data=@image.jpg {url}/classify", flush=True)


def _freeze() -> None:
    """Collects no garbage of what is there now; see ``tap.make_service``."""
    machine.settle()
    gc.enable()


def _end(status: int) -> None:
    """Ends the process at once."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
