# SPDX-License-Identifier: MIT
"""A real etcd for tests, and a network before it that can be cut."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.request
from base64 import b64encode
from typing import Any

from twisted.protocols.portforward import ProxyFactory, ProxyServer

from tests.processes import until

IS_INSTALLED = shutil.which("etcd") is not None

NOT_INSTALLED = "etcd is not installed (Debian's etcd-server)"


QUICK = ("--heartbeat-interval", "10", "--election-timeout", "100")
"""Milliseconds: the election of one member need not wait for others."""


class Etcd:
    """An etcd of one member; it keeps its data when it is killed and started again."""

    def __init__(self, *options: str, scheme: str = "http", name: str = "test") -> None:
        self.port, peer_port = _free_port(), _free_port()
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self.peer_url = f"http://127.0.0.1:{peer_port}"
        self.name = name
        self.members: tuple[Etcd, ...] = (self,)
        self._folder = tempfile.mkdtemp(prefix="etcd-")
        self._options = options
        self._process: subprocess.Popen[bytes]

    def start(self, *, wait: bool = True) -> None:
        peers = ",".join(f"{each.name}={each.peer_url}" for each in self.members)
        self._process = subprocess.Popen(
            [
                *("etcd", "--data-dir", self._folder, "--name", self.name),
                *("--listen-client-urls", self.url, "--advertise-client-urls", self.url),
                *("--listen-peer-urls", self.peer_url),
                *("--initial-advertise-peer-urls", self.peer_url, "--initial-cluster", peers),
                *(QUICK if len(self.members) == 1 else ()),
                *self._options,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if wait:
            until(self.is_ready)

    def is_ready(self) -> bool:
        try:
            return "header" in self.call("/v3/kv/range", {"key": b64encode(b"-").decode()})
        except OSError:
            assert self._process.poll() is None, "etcd ended by itself"
            return False

    def is_leader(self) -> bool:
        """Whether it is the one that its cluster has elected."""
        status = self.call("/v3/maintenance/status", {})
        return bool(status.get("leader") == status["header"]["member_id"])

    def call(self, path: str, message: dict[str, Any]) -> Any:
        asked = urllib.request.Request(f"{self.url}{path}", json.dumps(message).encode())
        with urllib.request.urlopen(asked, timeout=5) as answer:
            return json.loads(answer.read())

    def compact(self) -> None:
        """Forgets all revisions but the newest."""
        header = self.call("/v3/kv/range", {"key": b64encode(b"-").decode()})["header"]
        self.call("/v3/kv/compaction", {"revision": header["revision"], "physical": True})

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._folder)


class EtcdCluster:
    """An etcd of three members, with the times for elections that etcd has by itself."""

    def __init__(self) -> None:
        self.members = tuple(Etcd(name=f"test-{number}") for number in range(3))
        for member in self.members:
            member.members = self.members

    def start(self) -> None:
        for member in self.members:
            member.start(wait=False)
        for member in self.members:
            until(member.is_ready)

    def leader(self) -> Etcd:
        """The member that leads; the cluster has elected one."""
        return next(member for member in self.members if member.is_leader())

    def close(self) -> None:
        for member in self.members:
            member.close()


class _Cable(ProxyServer):
    factory: Network

    def connectionMade(self) -> None:
        super().connectionMade()
        self.factory.cables.add(self)

    def setPeer(self, peer: Any) -> None:
        super().setPeer(peer)
        if self.factory.is_cut:
            self.factory.pause(self)

    def connectionLost(self, reason: Any) -> None:
        self.factory.cables.discard(self)
        super().connectionLost(reason)


class Network(ProxyFactory):
    """Passes connections on to ``port`` while it is not cut; cut, it is silent."""

    noisy = False
    protocol = _Cable

    def __init__(self, port: int) -> None:
        super().__init__("127.0.0.1", port)
        self.cables: set[_Cable] = set()
        self.is_cut = False

    def cut(self) -> None:
        self.is_cut = True
        for cable in self.cables:
            self.pause(cable)

    def heal(self) -> None:
        self.is_cut = False
        for cable in self.cables:
            if cable.peer is not None:
                cable.transport.resumeProducing()
                cable.peer.transport.resumeProducing()

    def pause(self, cable: _Cable) -> None:
        if cable.peer is not None:
            cable.transport.pauseProducing()
            cable.peer.transport.pauseProducing()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
