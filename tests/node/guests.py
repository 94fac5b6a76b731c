# SPDX-License-Identifier: MIT
"""A runtime that needs no library, to be run in a process apart: an image's first value says
what becomes of its batch."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smls.errors import BrokenImage, ModelUnusable
from smls.tensors import Tensors, TensorSpec
from smls_node.kept import Kept
from smls_node.signature import DEFAULT, Signature

FAILS, IS_BROKEN, IS_ODD, DIES, MEETS, HANGS = -1.0, -2.0, -3.0, -4.0, -5.0, -6.0


class Odd(Exception):
    """An error that only its own process knows."""


class Adding:
    """Adds ``more`` to the sum of an image; ``weights`` bytes are there for their size alone."""

    process = problem = ""

    def __init__(self, more: float, weights: int) -> None:
        signature = Signature(
            (TensorSpec("x", "FP32", (-1, 2, 2, 3)),), (TensorSpec("sum", "FP32", (-1, 1)),)
        )
        self.signatures = {DEFAULT: signature}
        self.example = signature.zeros()
        self._more = more
        self._weights = np.ones(weights, np.uint8)
        self._meeting = threading.Barrier(2)

    def infer(self, inputs: Tensors, signature: str, parameters: Mapping[str, Any]) -> Tensors:
        batch = inputs["x"]
        match float(batch[:, 0, 0, 0].min()):
            case -1.0:
                raise ValueError("negative")
            case -2.0:
                raise BrokenImage("cut short")
            case -3.0:
                raise Odd("an odd one")
            case -4.0:
                os.kill(os.getpid(), signal.SIGKILL)
            case -5.0:
                self._meeting.wait(60)
            case -6.0:
                # Called so, it keeps Python's lock: no other thread of its process runs.
                ctypes.PyDLL(None).sleep(600)
        sums: NDArray[np.float32] = batch.sum(axis=(1, 2, 3))[:, None] + self._more
        return {"sum": sums}

    def unload(self) -> None: ...


PRELOAD_FAILS = "SMLS_TEST_PRELOAD_FAILS"

PRELOAD_HANGS = "SMLS_TEST_PRELOAD_HANGS"
"""The path of a pipe: who imports the library writes its process there, and hangs."""

preloaded: list[int] = []
"""The process that has imported the library, had this one."""


def preload() -> None:
    """As a runtime whose library takes long to be imported, or cannot be."""
    if PRELOAD_FAILS in os.environ:
        raise ImportError("there is no such library")
    if PRELOAD_HANGS in os.environ:
        with open(os.environ[PRELOAD_HANGS], "w") as file:
            file.write(str(os.getpid()))
        ctypes.PyDLL(None).sleep(600)
    preloaded.append(os.getpid())


def load_where_preloaded() -> Adding:
    """Adds the number of the process in which ``preload`` was called."""
    return Adding(float(preloaded[0]), 0)


def load_slowly(path: str) -> Adding:
    """Writes its process to the pipe at ``path``, and hangs with Python's lock."""
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    ctypes.PyDLL(None).sleep(600)
    return Adding(0.0, 0)


def load(more: float = 0.0, weights: int = 0) -> Adding:
    return Adding(more, weights)


def load_and_tell() -> Adding:
    """Has something to say, as our own runtimes say it."""
    Kept((Path("/"),), "key").read()
    return Adding(0.0, 0)


def load_file(path: str) -> Adding:
    """Its number is in a file, which may be gone when it is loaded again."""
    try:
        with open(path) as file:
            return Adding(float(file.read()), 0)
    except OSError as error:
        raise ModelUnusable(f"{path}: there is no such file") from error


def load_and_die() -> Adding:
    os._exit(7)


def image(first: float = 0.0, other: float = 0.0) -> NDArray[np.float32]:
    values = np.full((2, 2, 3), other, np.float32)
    values[0, 0, 0] = first
    return values
