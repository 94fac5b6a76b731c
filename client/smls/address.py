# SPDX-License-Identifier: MIT
"""Which address a node advertises: the one by which others reach this machine."""

from __future__ import annotations

import socket
from ipaddress import ip_address

from attrs import frozen

from smls.errors import BadRecord
from smls.wire import join_address, split_address

ELSEWHERE = "192.0.2.1"
"""An address that is nobody's (RFC 5737): the way to it is the default route."""


@frozen
class Reached:
    """This machine's addresses: on the way to a registry, and on the default route if any."""

    towards_registry: str
    by_default: str | None = None


@frozen
class Advertise:
    """What a node was told of its address; ``port`` is the one it listens on.

    ``explicit`` is ``HOST`` or ``HOST:PORT`` and wins; ``host`` is what the node listens on,
    all addresses where it is empty.
    """

    port: int
    host: str = ""
    explicit: str = ""

    def fixed(self) -> str | None:
        """The address that is the same whatever the registry, if there is one.

        >>> Advertise(8501, explicit="gpu1").fixed(), Advertise(8501, "192.0.2.7").fixed()
        ('gpu1:8501', '192.0.2.7:8501')

        :raises BadRecord: where ``explicit`` is neither ``HOST`` nor ``HOST:PORT``.
        """
        if self.explicit:
            return _with_port(self.explicit, self.port)
        return None if _is_wildcard(self.host) else join_address(self.host, self.port)

    def address(self, reached: Reached) -> str:
        """The address for a registry that is ``reached`` so.

        A registry on this machine is reached over loopback, and its clients may still be
        elsewhere: they need the address on the default route.
        """
        fixed = self.fixed()
        if fixed is not None:
            return fixed
        host = reached.towards_registry
        if ip_address(host.partition("%")[0]).is_loopback:
            host = reached.by_default or host
        return join_address(host, self.port)


def reach(host: str, port: int) -> Reached:
    """How ``host`` is reached from here. Blocks while the name is looked up; sends no packet.

    :raises OSError: where the name is unknown or there is no way to it.
    """
    try:
        by_default = _source(ELSEWHERE, 9)
    except OSError:
        by_default = None
    return Reached(_source(host, port), by_default)


def _source(host: str, port: int) -> str:
    last: OSError = OSError(f"{host} has no address")
    for family, kind, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM):
        try:
            with socket.socket(family, kind) as probe:
                probe.connect(address)
                return str(probe.getsockname()[0])
        except OSError as error:
            last = error
    raise last


def _with_port(explicit: str, port: int) -> str:
    bare_ipv6 = [f"[{explicit}]:{port}"] if explicit.count(":") > 1 else []
    for candidate in (explicit, f"{explicit}:{port}", *bare_ipv6):
        try:
            split_address(candidate)
        except BadRecord:
            continue
        return candidate
    raise BadRecord(f"advertise: got {explicit!r}, wanted HOST or HOST:PORT")


def _is_wildcard(host: str) -> bool:
    return host in ("", "0.0.0.0", "::")
