# SPDX-License-Identifier: MIT
"""``smls-node build``: a container image of a folder of models, by docker or podman."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

from twisted.python import usage

from smls import program
from smls.errors import SmlsError
from smls_node.commands import dockerfile

COMMAND = "smls-node build"

ENGINES: dict[str, tuple[str, ...]] = {"docker": (), "podman": ("--format", "docker")}
"""Those that build, the first found first, and what each is told. Podman's own format of images has
no health checks."""


class Options(dockerfile.Options):
    """Those of ``smls-node dockerfile``, and how to build."""

    synopsis = f"Usage: {COMMAND} DIR -t TAG [options]"

    longdesc = (
        "Builds an image that serves the model or the models in DIR: by DIR/Dockerfile, or where "
        "there is none by what 'smls-node dockerfile' would write."
    )

    examples = """\
    smls-node build models/ -t flowers
    docker run -p 8501:8501 flowers
"""

    optParameters: list[Any] = [
        ["tag", "t", None, "Name of the image, NAME or NAME:TAG."],
        ["engine", None, None, "docker or podman; the first of them that is found if left out."],
    ]

    def postOptions(self) -> None:
        super().postOptions()
        if not self["tag"]:
            raise usage.UsageError("--tag is missing")
        if self["engine"] not in (None, *ENGINES):
            raise usage.UsageError(
                f"--engine: got {self['engine']!r}, wanted {' or '.join(ENGINES)}"
            )


def main(arguments: Sequence[str]) -> None:
    """Builds; exits 1 where that fails, 2 for usage."""
    program.run_command(COMMAND, Options(), _build, arguments)


def _build(options: Options) -> None:
    wanted = [options["engine"]] if options["engine"] else [*ENGINES]
    name, *others = [*filter(shutil.which, wanted), None]
    if name is None:
        raise SmlsError(
            f"there is no {' and no '.join(wanted)} on PATH; install one, or have "
            "'smls-node dockerfile' write the file and build the image elsewhere"
        )
    folder = options["folder"]
    own = folder / "Dockerfile"
    text = None if own.is_file() else dockerfile.text_for(options)
    file = "-" if text else str(own)
    command = [name, "build", *ENGINES[name], "-t", options["tag"], "-f", file, str(folder)]
    print(" ".join(command), flush=True)
    done = subprocess.run(command, input=text, text=True, check=False)
    if done.returncode:
        rest = "".join(f"; there is {other} too: --engine {other}" for other in others if other)
        raise SmlsError(
            f"{name} build ended with status {done.returncode}; what it said is above{rest}"
        )
    print(
        f"built: {options['tag']}; try: {name} run -p {options['port']}:{options['port']} "
        f"{options['tag']}"
    )
