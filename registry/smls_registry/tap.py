# SPDX-License-Identifier: MIT
"""``smls-registry`` and ``twist smls-registry``: the command line of the registry."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

from twisted.python import usage

from smls import program
from smls_registry.leases import TTL_SECONDS, LeaseTable
from smls_registry.roster import Roster
from smls_registry.stores.memory import MemoryStore

if TYPE_CHECKING:
    from twisted.application.service import IService

COMMAND = "smls-registry"

PORT = 12480


class Options(program.ServerOptions):
    """The registry's options."""

    longdesc = (
        "Knows which nodes live. Nodes announce themselves and renew; clients ask for the list or "
        "for the next node, and a plain upload is sent on to a node by a redirect."
    )

    examples = f"""\
Start it, and start a node that announces itself there:
    {COMMAND}
    smls-node --registry http://127.0.0.1:{PORT}

See which nodes live, and ask for the next one that serves a model:
    curl http://127.0.0.1:{PORT}/v1/nodes
    curl 'http://127.0.0.1:{PORT}/next?model=flowers'

Classify an image; the upload goes straight to a node:
    curl -L -H 'Expect: 100-continue' -F data=@image.jpg http://127.0.0.1:{PORT}/classify
"""

    optParameters: list[list[Any]] = [
        [
            "port",
            "p",
            PORT,
            "Port to listen on; 0 takes a free one.",
            program.whole_number("port", 0, 65535),
        ],
        [
            "ttl",
            None,
            TTL_SECONDS,
            "A node that does not renew for so long is gone.",
            program.seconds("ttl"),
        ],
    ]

    def parseArgs(self, *extra: str) -> None:
        if extra:
            raise usage.UsageError(f"got {extra[0]!r}, wanted options alone")

    def postOptions(self) -> None:
        super().postOptions()
        program.require_extra(COMMAND, "registry", ["klein"])


def makeService(options: Options) -> IService:
    """The registry that ``options`` ask for, not yet started."""
    # Klein installs a reactor when it is imported, so it waits until there is to be one.
    from twisted.internet import reactor

    from smls_registry.app import RegistryApp
    from smls_registry.service import RegistryService

    clock: Any = reactor
    table = LeaseTable(Roster(secrets.token_hex(8)), options["ttl"])
    app = RegistryApp(MemoryStore(table, time.monotonic), clock)
    return RegistryService(
        clock,
        app,
        port=options["port"],
        host=options["host"],
        mdns=not options["no-mdns"],
    )


def main() -> None:
    """Runs ``smls-registry`` until it is told to stop."""
    options = Options()  # type: ignore[no-untyped-call]
    program.main(COMMAND, options, makeService)
