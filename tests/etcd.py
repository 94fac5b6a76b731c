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


class Etcd:
    """An etcd of one member; it keeps its data when it is killed and started again."""

    def __init__(self, *options: str, scheme: str = "http") -> None:
        self.port, self._peer_port = _free_port(), _free_port()
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self._folder = tempfile.mkdtemp(prefix="etcd-")
        self._options = options
        self._process: subprocess.Popen[bytes]

    def start(self, *, wait: bool = True) -> None:
        peer = f"http://127.0.0.1:{self._peer_port}"
        self._process = subprocess.Popen(
            [
                *("etcd", "--data-dir", self._folder, "--name", "test"),
                *("--listen-client-urls", self.url, "--advertise-client-urls", self.url),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                *("--initial-cluster", f"test={peer}"),
                # Elections of one member need not wait for others.
                *("--heartbeat-interval", "10", "--election-timeout", "100"),
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
