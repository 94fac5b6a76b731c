# SPDX-License-Identifier: MIT
"""What must be there before anything is measured, and what is to be known of it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench import environments, load, processes, servers
from bench.places import DIGITS, PHOTOS, PHOTOS_REQUIREMENTS, ROOT

NODE_PACKAGES = ("simple-ml-serving", "tensorflow", "openvino", "simplejpeg", "twisted", "klein")
"""Those whose versions are told."""


def ready() -> bool:
    """Whether a small benchmark can begin; where it can, images and compiled modules are there."""
    try:
        load.find_wrk()
    except load.NoWrk as error:
        print(error, file=sys.stderr)
        return False
    prepare_images()
    environments.compile_own()
    return True


def prepare_images() -> None:
    """Makes the images to send where they are not there yet."""
    if (PHOTOS / "answers.txt").exists() and (DIGITS / "answers.txt").exists():
        return
    home = environments.environment("photos", PHOTOS_REQUIREMENTS)
    subprocess.run(
        [home / "bin" / "python", "-m", "bench.photos", str(PHOTOS), str(DIGITS)],
        cwd=ROOT,
        check=True,
    )


def environment(server: servers.Server) -> Path | str | None:
    """The peer's environment, what went wrong with it, or None for our node."""
    if server.directory is None:
        return None
    try:
        return environments.environment(
            server.directory.name, server.directory / "requirements.txt"
        )
    except environments.CannotInstall as error:
        print(f"{server.name} cannot be installed: {error}")
        return f"cannot be installed: {error}"


def versions(server: servers.Server, home: Path | None) -> dict[str, str]:
    if server.directory is None or home is None:
        return {name: version(name) for name in NODE_PACKAGES if _has(name)}
    return environments.versions(home, server.directory / "requirements.txt")


def _has(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


def machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": processes.cores(),
        "vectors": [
            flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags
        ],
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "python": platform.python_version(),
        "tensorflow": version("tensorflow"),
        "system": platform.platform(),
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
    }
