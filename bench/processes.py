# SPDX-License-Identifier: MIT
"""What a process and its descendants take, read from /proc, and how they are ended."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

_MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ ([0-9a-f]+) (\S+) (\d+)")
_TICKS = os.sysconf("SC_CLK_TCK")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def tree(root: int) -> list[int]:
    """The process and its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def cpu_seconds(root: int) -> float:
    """Processor time of the tree so far."""
    total = 0.0
    for pid in tree(root):
        fields = _stat(pid)
        if fields:
            total += (int(fields[11]) + int(fields[12])) / _TICKS
    return total


def memory_mb(root: int) -> float:
    """What the tree would take if it ran alone, in MB of 10**6 bytes.

    That is its anonymous memory, pages shared between its processes counted once (PSS), and each
    page of a mapped file counted once. Neither RSS nor PSS would say it: RSS counts the pages that
    workers share several times, and PSS spreads TensorFlow's library over all servers that run.
    """
    anonymous = 0
    files: dict[tuple[str, str], dict[str, int]] = {}
    for pid in tree(root):
        try:
            lines = Path(f"/proc/{pid}/smaps").read_text().splitlines()
        except OSError:
            continue
        mine: dict[tuple[str, str], dict[str, int]] = {}
        key: tuple[str, str] | None = None
        offset = ""
        values: dict[str, int] = {}
        for line in lines:
            match = _MAPPING.match(line)
            if match:
                offset, device, inode = match.groups()
                key = (device, inode) if inode != "0" else None
                values = {}
                continue
            name, _, rest = line.partition(":")
            if name not in ("Rss", "Pss", "Anonymous"):
                continue
            values[name] = int(rest.split()[0])
            if name != "Anonymous":
                continue
            if key is None:
                anonymous += values["Pss"]
            else:
                anonymous += values["Anonymous"]
                parts = mine.setdefault(key, {})
                parts[offset] = parts.get(offset, 0) + values["Rss"] - values["Anonymous"]
        for file, parts in mine.items():
            most = files.setdefault(file, {})
            for part, size in parts.items():
                most[part] = max(most.get(part, 0), size)
    return (anonymous + sum(sum(parts.values()) for parts in files.values())) * 1024 / 1e6


def settle(root: int, longest: float = 20.0) -> None:
    """Waits until the tree does next to nothing: its start is over, workers and all."""
    deadline = time.monotonic() + longest
    before = cpu_seconds(root)
    while time.monotonic() < deadline:
        time.sleep(0.5)
        now = cpu_seconds(root)
        if now - before < 0.05:
            return
        before = now


def idle_share(root: int, seconds: float = 1.0) -> float:
    """Part of one core that the tree uses while nobody asks it anything."""
    before, start = cpu_seconds(root), time.monotonic()
    time.sleep(seconds)
    return (cpu_seconds(root) - before) / (time.monotonic() - start)


def pause(root: int) -> None:
    """Stops the tree, to go on at ``resume``."""
    _signal(tree(root), signal.SIGSTOP)


def resume(root: int) -> None:
    """Lets a stopped tree go on."""
    _signal(tree(root), signal.SIGCONT)


def end(process: subprocess.Popen[Any], patience: float = 10.0) -> None:
    """Ends the process as a user would, then whatever of its tree is left."""
    left = {pid: _started(pid) for pid in tree(process.pid)}
    _signal(list(left), signal.SIGCONT)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(patience)
    for pid, started in left.items():
        if started is not None and _started(pid) == started:
            _signal([pid], signal.SIGKILL)
    process.wait(patience)


def machine_busy(seconds: float = 1.0) -> float:
    """Part of the machine's cores that is busy now, 0 to 1."""
    before = _machine()
    time.sleep(seconds)
    after = _machine()
    spent = sum(after) - sum(before)
    return 1 - (after[3] + after[4] - before[3] - before[4]) / spent if spent else 0.0


def busy_seconds() -> float:
    """Processor time that the whole machine has spent so far, other than waiting."""
    spent = _machine()
    return (sum(spent) - spent[3] - spent[4]) / _TICKS


def children_seconds() -> float:
    """Processor time of this process's children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def slowness() -> float:
    """Milliseconds for a fixed piece of work on one core; a shared host's speed comes and goes."""
    start = time.perf_counter()
    total = 0
    for number in range(1_000_000):
        total += number
    return (time.perf_counter() - start) * 1e3


def stolen_seconds() -> float:
    """Seconds that the host took from this machine's cores since it started, where it says so."""
    return _machine()[7] / _TICKS


def _machine() -> list[int]:
    first = Path("/proc/stat").read_text().split("\n", 1)[0]
    return [int(value) for value in first.split()[1:9]]


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name, in parentheses, may itself have spaces and parentheses.
    return text.rpartition(")")[2].split()


def _started(pid: int) -> str | None:
    fields = _stat(pid)
    return fields[19] if fields else None


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
