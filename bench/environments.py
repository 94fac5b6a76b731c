# SPDX-License-Identifier: MIT
"""Virtual environments, one for each peer because their dependencies clash; reused when unchanged.

They are made by uv, which links files out of its cache: on one file system, five TensorFlows take
the room of one.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from bench.places import ENVIRONMENTS

SAME = ("tensorflow", "pillow", "numpy")
"""Packages that a peer gets in the very version that the node has, where it asks for them."""

INSTALL_SECONDS = 900


class CannotInstall(Exception):
    """uv could not make an environment; the message is the end of what it said."""


def environment(name: str, requirements: Path) -> Path:
    """The directory of an environment with ``requirements``; made only where it is not there yet.

    :raises CannotInstall: where a package cannot be had.
    """
    directory = ENVIRONMENTS / name
    constraints = "".join(f"{package}=={version(package)}\n" for package in SAME)
    wanted = hashlib.sha256(
        (sys.version + constraints + requirements.read_text()).encode()
    ).hexdigest()
    stamp = directory / "made-from"
    if stamp.exists() and stamp.read_text() == wanted:
        return directory
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    pins = ENVIRONMENTS / f"{name}-constraints.txt"
    pins.write_text(constraints)
    print(f"making the environment of {name}", flush=True)
    _uv("venv", "--quiet", "--clear", "--python", sys.executable, str(directory))
    _uv(
        # pip compiles what it installs, uv only when told to: a first start would take ten seconds.
        *("pip", "install", "--quiet", "--compile-bytecode"),
        *("--python", str(directory / "bin" / "python")),
        *("--requirement", str(requirements), "--constraint", str(pins)),
    )
    stamp.write_text(wanted)
    return directory


def variables() -> dict[str, str]:
    """What every process that is measured gets: quiet, on the processor, modules compiled once."""
    inherited = {
        # It would have Python compile TensorFlow anew at each start, for ten seconds.
        key: value
        for key, value in os.environ.items()
        if key != "PYTHONDONTWRITEBYTECODE"
    }
    return inherited | {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}


def compile_own() -> None:
    """Imports TensorFlow once in a child, so that its modules are compiled here as well."""
    command = [sys.executable, "-c", "import tensorflow"]
    subprocess.run(command, env=variables(), capture_output=True, check=False)


def versions(directory: Path, requirements: Path) -> dict[str, str]:
    """What an environment has of the packages that ``requirements`` names."""
    lines = requirements.read_text().splitlines()
    packages = [match[0] for line in lines if (match := re.match(r"[\w.-]+", line))]
    code = (
        "import sys, importlib.metadata as m\nfor p in sys.argv[1:]: print(p + '=' + m.version(p))"
    )
    listed = subprocess.run(
        [directory / "bin" / "python", "-c", code, *packages],
        capture_output=True,
        text=True,
        check=False,
    )
    return dict(line.split("=", 1) for line in listed.stdout.splitlines())


def _uv(*arguments: str) -> None:
    # The environment that runs the benchmark must not be taken for the one to install into.
    inherited = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "uv", *arguments],
            capture_output=True,
            text=True,
            env=inherited,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CannotInstall(f"uv took longer than {INSTALL_SECONDS} s") from error
    if done.returncode != 0:
        raise CannotInstall(done.stderr.strip()[-600:] or f"uv ended with {done.returncode}")
