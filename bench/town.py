# SPDX-License-Identifier: MIT
"""A small town of hosts on one machine: network namespaces, each with a link of its own speed.

All hosts hang on one switch, a bridge in a namespace of its own. A link is as fast as it is told
in both directions (token buckets at its two ends). Needs Linux, root, and ``ip`` and ``tc``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Any

SUBNET = "10.213.77"


class NoTown(Exception):
    """Namespaces cannot be made here; the message says why."""


class Town:
    """Hosts by name. Used as a context manager, which ends their processes and takes it away."""

    def __init__(self) -> None:
        self._prefix = f"smls{os.getpid()}"
        self._spaces: list[str] = []
        self._addresses: dict[str, str] = {}
        self._processes: list[subprocess.Popen[Any]] = []

    def __enter__(self) -> Town:
        """Makes the switch.

        :raises NoTown: where that is not permitted, or a tool is missing.
        """
        for tool in ("ip", "tc"):
            if shutil.which(tool) is None:
                raise NoTown(f"{tool} is missing: apt-get install iproute2")
        try:
            self._space("switch")
            self._in("switch", "ip", "link", "add", "switch", "type", "bridge")
            self._in("switch", "ip", "link", "set", "switch", "up")
        except subprocess.CalledProcessError as error:
            self.__exit__()
            raise NoTown(f"network namespaces are not permitted: {error.stderr.strip()}") from None
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for space in self._spaces:
            with suppress(subprocess.CalledProcessError):
                _run("ip", "netns", "del", space)

    def host(self, name: str, megabits: int, *, sends_packets: bool = False) -> str:
        """Adds a host with a link of so many megabits a second; its address.

        What it sends goes over the link 64 kB at a time, unless it ``sends_packets`` as a network
        card does.
        """
        space = self._space(name)
        number = len(self._addresses) + 1
        address = self._addresses[name] = f"{SUBNET}.{number}"
        end = f"port{number}"
        switch = f"{self._prefix}-switch"
        _run(
            *("ip", "link", "add", end, "netns", switch, "type", "veth"),
            *("peer", "name", "eth0", "netns", space),
        )
        self._in("switch", "ip", "link", "set", end, "master", "switch", "up")
        self._in(name, "ip", "address", "add", f"{address}/24", "dev", "eth0")
        self._in(name, "ip", "link", "set", "eth0", "up")
        self._in(name, "ip", "link", "set", "lo", "up")
        if sends_packets:
            self._in(name, "ip", "link", "set", "eth0", "gso_max_segs", "1")
        for where, device in (("switch", end), (name, "eth0")):
            self._in(
                *(where, "tc", "qdisc", "add", "dev", device, "root", "tbf"),
                *("rate", f"{megabits}mbit", "burst", "128kb", "latency", "100ms"),
            )
        return address

    def here(self) -> str:
        """Hangs this machine itself on the switch, with a link as fast as it can; its address."""
        number = len(self._addresses) + 1
        address = self._addresses[""] = f"{SUBNET}.{number}"
        end, switch = f"{self._prefix}", f"{self._prefix}-switch"
        _run(
            *("ip", "link", "add", f"port{number}", "netns", switch, "type", "veth"),
            *("peer", "name", end),
        )
        self._in("switch", "ip", "link", "set", f"port{number}", "master", "switch", "up")
        _run("ip", "address", "add", f"{address}/24", "dev", end)
        _run("ip", "link", "set", end, "up")
        return address

    def start(self, name: str, command: Sequence[object], log: IO[bytes], **named: Any) -> None:
        """Starts a process on the host; it ends with the town."""
        line = [*self.within(name), *map(str, command)]
        self._processes.append(subprocess.Popen(line, stdout=log, stderr=log, **named))

    def run(
        self, name: str, command: Sequence[object], seconds: float
    ) -> subprocess.CompletedProcess[str]:
        """Runs a process on the host to its end.

        :raises subprocess.SubprocessError: where it fails, or takes longer than ``seconds``.
        """
        line = [*self.within(name), *map(str, command)]
        return subprocess.run(line, capture_output=True, text=True, timeout=seconds, check=True)

    def _space(self, name: str) -> str:
        space = f"{self._prefix}-{name}"
        _run("ip", "netns", "add", space)
        self._spaces.append(space)
        return space

    def within(self, name: str) -> list[str]:
        """What a command line begins with that is to run on the host."""
        return ["ip", "netns", "exec", f"{self._prefix}-{name}"]

    def _in(self, name: str, *command: str) -> None:
        _run(*self.within(name), *command)


def _run(*command: str) -> None:
    subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
