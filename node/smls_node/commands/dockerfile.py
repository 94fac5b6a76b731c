# SPDX-License-Identifier: MIT
"""``smls-node dockerfile``: how a folder of models becomes a container image."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import metadata, version
from pathlib import Path
from typing import Any

from twisted.python import usage

from smls import program
from smls.errors import ModelUnusable, SmlsError
from smls_node import packing
from smls_node.options import DEFAULT_PORT
from smls_node.packing import Packed

COMMAND = "smls-node dockerfile"


class Options(program.CommandOptions):
    """The verb's options; ``smls-node build`` has them too."""

    synopsis = f"Usage: {COMMAND} DIR [options]"

    longdesc = (
        "Writes DIR/Dockerfile, and DIR/.dockerignore where there is none, for an image that "
        "serves the model or the models in DIR. Each requirements.txt in it is installed."
    )

    examples = """\
    smls-node dockerfile models/
    docker build -t flowers models/
    docker run -p 8501:8501 flowers
"""

    optParameters: list[Any] = [
        ["output", "o", None, "File to write instead; - prints it."],
        ["base", None, None, "Image to begin from, with Python 3.11 or later and its venv."],
        ["extras", None, "", "Extras to install besides those that the models need, as openvino."],
        ["wheel", None, None, "Wheel of smls, in DIR, to install instead of the released one."],
        ["port", None, DEFAULT_PORT, "Port that is served.",
         program.whole_number("port", 1, 65535)],
    ]  # fmt: skip

    optFlags = [["gpu", None, "Ask for NVIDIA's driver, and install CUDA with TensorFlow."]]

    def parseArgs(self, *folders: str) -> None:
        if len(folders) != 1:
            raise usage.UsageError(f"got {len(folders)} folders, wanted one: DIR")
        self["folder"] = Path(folders[0])


def text_for(options: Options) -> str:
    """The Dockerfile that the options ask for.

    :raises ModelUnusable: where the folder cannot be served, or the wheel is not in it.
    """
    folder: Path = options["folder"]
    provided = metadata(program.DISTRIBUTION).get_all("Provides-Extra") or []
    seen: dict[str, Any] = packing.found(folder, provided)
    more = {extra for extra in options["extras"].split(",") if extra}
    if not more <= set(provided):
        raise ModelUnusable(
            f"--extras: got {', '.join(sorted(more - set(provided)))}, wanted some of "
            f"{', '.join(sorted(provided))}"
        )
    wheel = None
    if options["wheel"] is not None:
        path = Path(options["wheel"]).resolve()
        if not path.is_file() or not path.is_relative_to(folder.resolve()):
            raise ModelUnusable(f"--wheel: got {options['wheel']}, wanted a file in {folder}")
        wheel = str(path.relative_to(folder.resolve()))
    return packing.dockerfile(
        Packed(
            version=version(program.DISTRIBUTION),
            python=f"{sys.version_info.major}.{sys.version_info.minor}",
            port=options["port"],
            model=seen["model"],
            requirements=seen["requirements"],
            extras=tuple(sorted({*seen["extras"], *more})),
            wheel=wheel,
            is_gpu=bool(options["gpu"]),
            base=options["base"],
        )
    )


def main(arguments: Sequence[str]) -> None:
    """Writes the file; exits 1 where it cannot, 2 for usage."""
    program.run_command(COMMAND, Options(), _write, arguments)


def _write(options: Options) -> None:
    text = text_for(options)
    if options["output"] == "-":
        print(text, end="")
        return
    file = Path(options["output"] or options["folder"] / "Dockerfile")
    if file.exists() and not file.read_text().startswith(packing.MARK):
        raise SmlsError(f"{file} was written by somebody else; move it away, or name an --output")
    file.write_text(text)
    print(f"written: {file}")
    ignored = options["folder"] / ".dockerignore"
    if not ignored.exists():
        ignored.write_text(packing.IGNORED)
        print(f"written: {ignored}")
