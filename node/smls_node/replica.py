# SPDX-License-Identifier: MIT
"""The program of one replica: a node that also serves the connections that its supervisor gets.

``python -m smls_node.replica NUMBER DESCRIPTOR OPTIONS…`` takes the node's own options. Over the
socket of that descriptor it says twice a second how it is, and is given connections and told to
stop.
It ends with the supervisor, however that ends (``machine.end_with``): its standard input is a pipe
that nobody else holds.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from typing import Any

from attrs import evolve
from twisted.internet.task import LoopingCall

from smls import program
from smls_node import handover, machine
from smls_node.nodesettings import NodeSettings, settings_of
from smls_node.service import NodeService
from smls_node.tap import COMMAND, Options, check_grpc


class Replica(NodeService):
    """A node on a port of its own, which serves what it is given as well."""

    def __init__(self, reactor: Any, settings: NodeSettings, supervisor: socket.socket) -> None:
        super().__init__(reactor, settings)
        self._supervisor = supervisor
        self._state: dict[str, Any] = {}
        self._beating = LoopingCall(self._tell)
        self._beating.clock = reactor

    def startService(self) -> None:
        super().startService()
        self._reactor.addReader(self)
        self._beating.start(handover.BEAT_SECONDS)

    def tell_ready(self, names: str) -> None:
        self._state = {"port": self.port, "models": names}
        self._tell()

    def fileno(self) -> int:
        """As a reader of the reactor."""
        return self._supervisor.fileno()

    def logPrefix(self) -> str:
        return "replica"

    def doRead(self) -> None:
        for _ in range(handover.AT_ONCE):
            try:
                said, connections = handover.take(self._supervisor)
            except BlockingIOError:
                return
            for connection in connections:
                handover.serve(self._reactor, connection, self._site)
            if said == handover.STOP and self.running:
                self._reactor.stop()
            elif not said:
                # The supervisor is gone. Where it can, the kernel has ended us by now.
                os._exit(1)

    def _tell(self) -> None:
        # A supervisor that is stopped reads nothing, and will read the same later; where it is gone
        # ``doRead`` finds out.
        with contextlib.suppress(OSError):
            self._supervisor.send(json.dumps(self._state).encode())

    def connectionLost(self, reason: object) -> None:
        """The reactor reads no more."""


def main() -> None:
    """Serves until the supervisor says to stop, or is gone."""
    machine.end_with(sys.stdin.fileno())
    number, descriptor, *arguments = sys.argv[1:]
    supervisor = socket.socket(fileno=int(descriptor))
    supervisor.set_inheritable(False)

    def make_service(options: Options) -> Replica:
        from twisted.internet import reactor

        check_grpc(options)
        settings = settings_of(options)
        first, name = options["replica-ports"], settings.node_name
        settings = evolve(
            settings,
            port=first and first + int(number) - 1,
            node_name=name and f"{name}-{number}",
        )
        return Replica(reactor, settings, supervisor)

    program.main(COMMAND, Options(), make_service, arguments, name=f"replica {number}")


if __name__ == "__main__":
    # As a module of that name, which its log carries.
    from smls_node import replica

    replica.main()
