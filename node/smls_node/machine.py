# SPDX-License-Identifier: MIT
"""What machine this is, as far as a finding about speed depends on it, and its processes."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import hashlib
import os
import platform
import re
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PR_SET_PDEATHSIG = 1
"""Of linux/prctl.h."""


HASHED_BYTES = 2**24
"""So much of a file is hashed at a time. Python's lock is let go meanwhile, and to have it back may
take 5 ms each time where another thread imports something."""

REPLICAS = "SMLS_REPLICAS"
"""The variable that says how many replicas of a node share the machine: it reaches what they
start as well."""


def cores() -> int:
    """How many processors this process may use: its share, where it is one of several replicas."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (count or 1) // int(os.environ.get(REPLICAS, "1")))


def fingerprint(*distributions: str) -> str:
    """16 hexadecimal digits that change with the processor, its cores, or one of the
    ``distributions``' versions."""
    parts = [platform.machine(), _processor(), str(cores())]
    parts += [f"{name} {_version(name)}" for name in distributions]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def write_whole(parts: Callable[[], Iterable[bytes | memoryview]], *places: Path) -> Path:
    """Writes a file that others may read or write meanwhile: they see the old one, or all of it.

    It is the first of ``places`` that can be written, and the folder of a later one is made.
    ``parts``, one after the other, are asked for when there is a file to write to.

    :raises OSError: where no place can be written.
    :raises Exception: what ``parts`` raises.
    """
    *earlier, last = places
    for place in earlier:
        with contextlib.suppress(OSError):
            _write_whole(parts, place)
            return place
    if earlier:
        last.parent.mkdir(parents=True, exist_ok=True)
    _write_whole(parts, last)
    return last


def _write_whole(parts: Callable[[], Iterable[bytes | memoryview]], place: Path) -> None:
    draft = place.with_name(f".{place.name}.{os.getpid()}-{threading.get_native_id()}")
    try:
        with draft.open("wb") as file:
            file.writelines(parts())
        draft.replace(place)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def file_hash(path: Path) -> str:
    """16 hexadecimal digits of the file's SHA-256."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while part := file.read(HASHED_BYTES):
            digest.update(part)
    return digest.hexdigest()[:16]


def end_with_parent() -> None:
    """Has this process killed as soon as the one that forked it is gone, however that ended.

    On Linux; elsewhere it goes on until it is done.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def end_with(pipe: int) -> None:
    """Has the kernel kill this process when the other end of ``pipe`` is closed; on Linux.

    No thread of ours is needed for it, so it holds even where a model hangs and lets no other
    thread run. PR_SET_PDEATHSIG would kill this process with the thread that has started it.
    """
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
    flags = fcntl.fcntl(pipe, fcntl.F_GETFL)
    fcntl.fcntl(pipe, fcntl.F_SETFL, flags | os.O_ASYNC)
    closed = select.poll()
    closed.register(pipe, 0)
    if closed.poll(0):
        # It was closed before the kernel was asked to tell of it.
        os.kill(os.getpid(), signal.SIGKILL)


def memory_kills() -> int | None:
    """How many processes the kernel has killed for want of memory so far, where that is told."""
    try:
        counters = Path("/proc/vmstat").read_text()
    except OSError:
        return None
    found = re.search(r"^oom_kill (\d+)$", counters, re.MULTILINE)
    return int(found[1]) if found else None


def told_end(status: int | None, kills: int | None, kills_now: int | None) -> str:
    """How a process ended, as what follows a subject; ``status`` as ``subprocess`` has it, or
    ``None`` where nobody knows.

    ``kills`` are ``memory_kills()`` when it started and now. Who has sent a SIGKILL cannot be
    asked, only whether the kernel has killed anything for want of memory meanwhile.

    >>> told_end(1, 4, 4), told_end(-11, 4, 4), told_end(-9, 4, 4)
    ('ended with status 1', 'was killed by SIGSEGV', 'was killed by SIGKILL')
    >>> told_end(-9, 4, 5)
    'was killed by SIGKILL, probably for want of memory'
    >>> told_end(-9, None, None)
    'was killed by SIGKILL, perhaps for want of memory'
    """
    if status is None:
        return "ended, nobody knows how"
    if status >= 0:
        return f"ended with status {status}"
    names = {each.value: each.name for each in signal.Signals}
    told = f"was killed by {names.get(-status, f'signal {-status}')}"
    if -status != signal.SIGKILL:
        return told
    if kills is None or kills_now is None:
        return f"{told}, perhaps for want of memory"
    return f"{told}, probably for want of memory" if kills_now > kills else told


def give_back_memory() -> None:
    """Gives the system what was freed: glibc keeps it, apart for each thread that it was freed
    in. Where the C library is another one, nothing is done."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


FULL_LOOK = 100
"""Python looks at all objects after so many looks at the young ones, ten times its own default.
Thousands of connections are half a million objects: to look at them takes 50 to 200 ms."""


def settle() -> None:
    """Makes the best of a process in which something large was loaded, which never dies.

    The garbage is collected and what is there now looked at no more: a full collection would stop
    all threads for as long as that takes. Later ones are rarer than usual, for they also look at
    each open connection. What loading needed and has freed is given back, 150 MB of it for
    MobileNetV2 in TensorFlow.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*gc.get_threshold()[:2], FULL_LOOK)
    give_back_memory()


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
