# SPDX-License-Identifier: MIT
"""HTTP in memory: a request's bytes into a site, the answer out of it."""

from __future__ import annotations

import json
from typing import Any

from attrs import frozen
from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport
from twisted.web.server import Site


class Transport(StringTransport):
    """A transport that notes how it is closed, and tells its protocol when it is."""

    ended = ""

    def loseWriteConnection(self) -> None:
        self.ended = self.ended or "half"

    def loseConnection(self) -> None:
        super().loseConnection()
        self.ended = "lost"

    def abortConnection(self) -> None:
        super().abortConnection()
        self.ended = "aborted"


class Connection:
    """One connection to ``site``."""

    def __init__(self, site: Site) -> None:
        peer = IPv4Address("TCP", "192.0.2.7", 4711)
        self.channel = site.buildProtocol(peer)
        self.transport = Transport(peerAddress=peer)
        self.channel.makeConnection(self.transport)

    def send(self, data: bytes) -> bytes:
        """What came back by now."""
        self.channel.dataReceived(data)
        return self.transport.value()


@frozen
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error's code; the whole body must be an error's."""
        error = self.json["error"]
        assert set(self.json) == {"error"}
        assert {"code", "message"} <= set(error)
        assert error["message"]
        return str(error["code"])


def parse(raw: bytes) -> Reply:
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return Reply(int(first.split()[1]), headers, body)


def request(method: str, target: str, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: registry"]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def ask(site: Site, method: str, target: str, body: bytes = b"", **headers: str) -> Reply:
    """The answer to one request on a connection of its own."""
    return parse(Connection(site).send(request(method, target, body, **headers)))
