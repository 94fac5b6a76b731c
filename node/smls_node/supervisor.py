# SPDX-License-Identifier: MIT
"""Keeps the replicas of a node running, and gives them the connections of the port they share.

The supervisor accepts, and gives each connection to the replica whose turn it is (``handover``);
it reads nothing of what passes. While no replica is ready it answers by itself, as a node does
that has no models and is still loading.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import inlineCallbacks
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from smls import program
from smls.errors import Overloaded
from smls.waiters import Waiters
from smls_node import handover
from smls_node.catalogue import Catalogue
from smls_node.child import Child
from smls_node.faces.app import make_site
from smls_node.faces.terms import Terms
from smls_node.nodesettings import NodeSettings, settings_of
from smls_node.replicas import HUNG_BEATS, SILENT_BEATS, Replicas
from smls_node.service import print_ready
from smls_node.serving import RETRY_LOADING_SECONDS, Phase, Serving

GRACE_SECONDS = 5.0
"""A replica that still runs so long after its drain timeout hangs, and is killed."""

ACCEPT_SECONDS = 0.1
"""How long nothing is accepted after the system has refused to: it has no descriptors left."""


class Supervisor(Service):
    """``count`` nodes with these settings, behind one port. ``arguments`` are the command line's.

    ``exit_status`` is 1 once they cannot be started, or one has not stopped in order.
    """

    log = Logger()

    def __init__(
        self, reactor: Any, settings: NodeSettings, count: int, arguments: Sequence[str]
    ) -> None:
        self.exit_status = 0
        self._reactor = reactor
        self._settings = settings
        self._arguments = arguments
        self._replicas = Replicas(count, time.monotonic())
        self._children: dict[int, Child] = {}
        self._ended = Waiters()
        self._serving = NoneReady(Catalogue(None), time.monotonic)
        self._site = make_site(
            self._serving,
            reactor,
            Terms(settings.request_timeout),
            version=version(program.DISTRIBUTION),
            max_upload=settings.max_upload,
            origins=settings.origins,
        )
        self._port: IListeningPort | None = None
        self._beating = LoopingCall(self._beat)
        self._beating.clock = reactor

    def startService(self) -> None:
        """Listens, and starts the replicas.

        :raises PortTaken: where the port cannot be had.
        """
        host = self._settings.host
        self._port = program.listen(self._reactor, self._settings.port, self._site, host)
        super().startService()  # type: ignore[no-untyped-call]
        self._serving.node = self._settings.node_name or f"{socket.gethostname()}:{self.port}"
        self.log.info(
            "listening on {host} port {port}, starting {count} replicas",
            host=host or "all addresses",
            port=self.port,
            count=self._replicas.count,
        )
        # Its socket stays, and is read here: Twisted would keep what it accepts.
        port: Any = self._port
        port.stopReading()
        self._listener = socket.socket(fileno=os.dup(port.fileno()))
        self._reactor.addReader(self)
        self._beating.start(handover.BEAT_SECONDS)
        self._start_due()

    @property
    def port(self) -> int:
        """The port that the replicas share."""
        assert self._port is not None
        host: Any = self._port.getHost()
        return int(host.port)

    @inlineCallbacks
    def stopService(self) -> Any:
        """Has all replicas drain; fires when they have ended."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._serving.phase = Phase.DRAINING
        self._replicas.stop()
        self.log.info("stopping {count} replicas", count=len(self._children))
        for child in self._children.values():
            child.stop()
        wait = self._settings.drain_timeout + GRACE_SECONDS
        giving_up = self._reactor.callLater(wait, self._kill)
        yield self._ended.wait(self._children)
        if giving_up.active():
            giving_up.cancel()
        self._beating.stop()
        self._reactor.removeReader(self)
        self._listener.close()
        assert self._port is not None
        yield self._port.stopListening()
        yield self._site.close_connections()
        self.log.info("stopped")

    def fileno(self) -> int:
        """As a reader of the reactor, of the shared port."""
        return self._listener.fileno()

    def logPrefix(self) -> str:
        return "supervisor"

    def connectionLost(self, reason: object) -> None:
        """The reactor reads no more."""

    def doRead(self) -> None:
        for _ in range(handover.AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                self.log.error("nothing is accepted for a moment: {error}", error=str(error))
                self._reactor.removeReader(self)
                self._reactor.callLater(ACCEPT_SECONDS, self._accept_again)
                return
            connection.setblocking(False)
            self._give(connection)

    def _accept_again(self) -> None:
        if self._listener.fileno() >= 0:
            self._reactor.addReader(self)

    def _give(self, connection: socket.socket) -> None:
        for _ in self._replicas.ready:
            number = self._replicas.turn()
            assert number is not None
            if self._children[number].give(connection):
                connection.close()
                return
        handover.serve(self._reactor, connection, self._site)

    def _start_due(self) -> None:
        for number in self._replicas.due(time.monotonic()):
            self._replicas.started(number, time.monotonic())
            try:
                child = Child(
                    self._reactor,
                    [str(number), *self._arguments],
                    self._replicas.count,
                    lambda said, number=number: self._said(number, said),  # type: ignore[misc]
                    lambda how, status, number=number: self._end(number, how, status),  # type: ignore[misc]
                )
            except OSError as error:
                self._again(number, f"could not be started: {error}")
            else:
                self._children[number] = child
                self.log.info("replica {number} is process {id}", number=number, id=child.id)

    def _said(self, number: int, said: dict[str, Any] | None) -> None:
        """How the replica is, or ``None`` where it has closed its end."""
        if said is None:
            self._replicas.is_leaving(number)
            return
        was_silent = self._replicas.heard(number)
        if not said or not self.running or number in self._replicas.ready:
            return
        self.log.info(
            "replica {number} answers again, and is given connections"
            if was_silent
            else "replica {number} is ready, with port {port} of its own",
            number=number,
            port=said["port"],
        )
        is_first = not self._replicas.ready
        is_complete = self._replicas.is_ready(number)
        if is_first:
            # Who has stayed connected would be told for ever that none is ready.
            self._site.close_connections()
        if is_complete:
            print_ready(self._settings.host, self.port, said["models"])

    def _beat(self) -> None:
        """Gives no more connections to who has fallen silent, and ends who hangs."""
        for number in self._replicas.beat():
            self.log.error(
                "replica {number}, process {id}, hangs or is stopped: it has said nothing for "
                "{seconds:.0f} s, and is given no connections until it does; {ready} of {count} "
                "are ready",
                number=number,
                id=self._children[number].id,
                seconds=SILENT_BEATS * handover.BEAT_SECONDS,
                ready=len(self._replicas.ready),
                count=self._replicas.count,
            )
        for number in self._replicas.hung:
            self.log.error(
                "replica {number} has said nothing for {seconds:.0f} s, and is killed",
                number=number,
                seconds=HUNG_BEATS * handover.BEAT_SECONDS,
            )
            self._replicas.heard(number)
            self._children[number].kill()

    def _end(self, number: int, how: str, status: int) -> None:
        del self._children[number]
        self._again(number, how)
        if not self.running:
            self.exit_status = self.exit_status or int(status != 0)
        elif status > 0 and not self._replicas.was_complete and not self.exit_status:
            # It has said why, and would say so again each time.
            self.exit_status = status
            self._reactor.stop()
        self._ended.tell(self._children)

    def _again(self, number: int, how: str) -> None:
        pause = self._replicas.ended(number, time.monotonic())
        if pause is None:
            self.log.info("replica {number} {how}", number=number, how=how)
            return
        self.log.error(
            "replica {number} {how}; it is started again in {pause:.1f} s, and {ready} of {count} "
            "are ready",
            number=number,
            how=how,
            pause=pause,
            ready=len(self._replicas.ready),
            count=self._replicas.count,
        )
        self._reactor.callLater(pause, self._start_due)

    def _kill(self) -> None:
        for number, child in self._children.items():
            self.log.error("replica {number} does not stop, and is killed", number=number)
            child.kill()


class NoneReady(Serving):
    """What the supervisor itself serves."""

    def refusal(self) -> Overloaded | None:
        """Always why not, see ``Serving``."""
        return (
            super().refusal()
            if self.phase is Phase.DRAINING
            else Overloaded(
                "none of the node's replicas is ready", retry_after_seconds=RETRY_LOADING_SECONDS
            )
        )


def make_service(options: Any) -> Supervisor:
    """The replicas that ``smls_node.tap.Options`` describe, on the installed reactor."""
    from twisted.internet import reactor

    return Supervisor(reactor, settings_of(options), options["replicas"], options["arguments"])
