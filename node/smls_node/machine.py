# SPDX-License-Identifier: MIT
"""What machine this is, as far as a finding about speed depends on it, and its processes."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import signal
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PR_SET_PDEATHSIG = 1
"""Of linux/prctl.h."""


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fingerprint(*distributions: str) -> str:
    """16 hexadecimal digits that change with the processor, its cores, or one of the
    ``distributions``' versions."""
    parts = [platform.machine(), _processor(), str(cores())]
    parts += [f"{name} {_version(name)}" for name in distributions]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """16 hexadecimal digits of the file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def end_with_parent() -> None:
    """Has this process killed as soon as the one that forked it is gone, however that ended.

    On Linux; elsewhere it goes on until it is done.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def give_back_memory() -> None:
    """Gives the system what was freed: glibc keeps it, apart for each thread that it was freed
    in. Where the C library is another one, nothing is done."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
