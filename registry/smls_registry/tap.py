# SPDX-License-Identifier: MIT
"""``smls-registry`` and ``twist smls-registry``: the command line of the registry."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.python import usage

from smls import program
from smls_registry.leases import TTL_SECONDS, LeaseTable
from smls_registry.roster import Roster
from smls_registry.stores import Store
from smls_registry.stores.memory import MemoryStore

if TYPE_CHECKING:
    from twisted.application.service import IService

COMMAND = "smls-registry"

PORT = 12480


PASSWORD = "SMLS_STORE_PASSWORD"
"""The variable in the environment that holds the store's password."""


def _store_place(text: str) -> Any:
    from smls_registry.stores.places import store_place

    return store_place(text)


_store_place.coerceDoc = "memory or etcd://HOST:PORT"  # type: ignore[attr-defined]


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

Start one of several, which stand in front of the same etcd:
    {COMMAND} --store etcd://etcd-1:2379,etcd-2:2379,etcd-3:2379

Watch what changes:
    curl -N http://127.0.0.1:{PORT}/v1/watch

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
        [
            "store",
            None,
            "memory",
            "Where the nodes are kept: memory, or etcd://[USER@]HOST:PORT[,HOST:PORT...][/PREFIX] "
            "for several registries; etcds:// is over TLS.",
            _store_place,
        ],
        ["store-password-file", None, None, "File with the password of USER; else $" + PASSWORD],
        ["store-ca", None, None, "Authority that etcd's certificate is to be from (PEM)."],
        ["store-cert", None, None, "Certificate that the registry shows to etcd (PEM)."],
        ["store-key", None, None, "Its private key (PEM)."],
    ]

    def parseArgs(self, *extra: str) -> None:
        if extra:
            raise usage.UsageError(f"got {extra[0]!r}, wanted options alone")

    def postOptions(self) -> None:
        super().postOptions()
        program.require_extra(COMMAND, "registry", ["klein"])
        self._check_store()

    @property
    def speaks_tls(self) -> bool:
        return self["store-tls"] is not None

    def _check_store(self) -> None:
        place = None if self["store"] == "memory" else self["store"]
        files = [name for name in ("store-ca", "store-cert", "store-key") if self[name]]
        if files and (place is None or not place.is_secure):
            raise usage.UsageError(f"--{files[0]} is for a --store etcds://...")
        if self["store-password-file"] and (place is None or not place.user):
            raise usage.UsageError("--store-password-file is for a --store etcd://USER@...")
        self["store"] = place
        self["store-tls"] = None
        self["store-password"] = ""
        if place is None:
            return
        try:
            if place.is_secure:
                from smls_registry.stores.places import ClientTLS

                self["store-tls"] = ClientTLS(
                    self["store-ca"], self["store-cert"], self["store-key"]
                )
        except ValueError as error:
            raise usage.UsageError(str(error)) from error
        if place.user:
            self["store-password"] = self._password()

    def _password(self) -> str:
        name = self["store-password-file"]
        if name is None:
            password = os.environ.get(PASSWORD)
            if password is None:
                raise usage.UsageError(
                    "--store names a user: wanted the password in --store-password-file "
                    f"or in ${PASSWORD}"
                )
            return password
        try:
            return Path(name).read_text().rstrip("\r\n")
        except (OSError, ValueError) as error:
            raise usage.UsageError(f"--store-password-file: {error}") from error


def make_service(options: Options) -> IService:
    """The registry that ``options`` ask for, not yet started."""
    # Klein installs a reactor when it is imported, so it waits until there is to be one.
    from twisted.internet import reactor

    from smls_registry.app import RegistryApp
    from smls_registry.service import RegistryService

    clock: Any = reactor
    app = RegistryApp(_store(options, clock), clock)
    return RegistryService(
        clock,
        app,
        port=options["port"],
        host=options["host"],
        mdns=not options["no-mdns"],
    )


makeService = program.under_twist(COMMAND, make_service)


def _store(options: Options, reactor: Any) -> Store:
    place = options["store"]
    if place is None:
        table = LeaseTable(Roster(secrets.token_hex(8)), options["ttl"])
        return MemoryStore(table, time.monotonic)
    from smls_registry.stores.etcd import EtcdStore
    from smls_registry.stores.gateway import Cluster, Gateway

    password, policy = options["store-password"], options["store-tls"]
    gateway = Gateway(reactor, Cluster(place.endpoints, place.user, password, policy))
    return EtcdStore(reactor, gateway, place.prefix, options["ttl"], time.monotonic)


def main() -> None:
    """Runs ``smls-registry`` until it is told to stop."""
    options = Options()
    program.main(COMMAND, options, make_service)
