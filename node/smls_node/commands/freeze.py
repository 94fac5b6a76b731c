# SPDX-License-Identifier: MIT
"""``smls-node freeze``: a SavedModel or a Keras model as a frozen graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.python import usage

from smls import program
from smls.errors import ModelUnusable
from smls_node import machine
from smls_node.formats import KERAS, SAVED_MODEL, format_of, located
from smls_node.hub import place_of
from smls_node.loading import name_of
from smls_node.settings import ModelSettings

COMMAND = "smls-node freeze"

ENDS = (".pb", ".graphdef")

MOST_BYTES = 2**31 - 1
"""What TensorFlow reads of a graph in one piece."""


class Options(program.CommandOptions):
    """The verb's options."""

    synopsis = f"Usage: {COMMAND} MODEL [options]"

    longdesc = (
        "Writes a SavedModel or a Keras model, of images, as a frozen graph: a single file with "
        "constants in place of variables, which is measured, and run in OpenVINO, as any graph is."
    )

    examples = """\
    smls-node freeze flowers.keras
    smls-node accelerate flowers.pb --images photos/
    smls-node --graph flowers.pb --labels flowers.txt --accelerate auto
"""

    optParameters: list[Any] = [
        ["output", "o", None, "File to write; NAME.pb in the folder where you are if left out."],
        ["signature", None, None, "Signature of the SavedModel; serving_default if left out."],
    ]

    def parseArgs(self, *models: str) -> None:
        if len(models) != 1:
            raise usage.UsageError(f"got {len(models)} models, wanted one: MODEL")
        self["model"] = models[0]

    def postOptions(self) -> None:
        super().postOptions()
        if self["output"] is not None and Path(self["output"]).suffix not in ENDS:
            raise usage.UsageError(
                f"--output: got {self['output']!r}, wanted a name that ends in {' or '.join(ENDS)}"
            )


def main(arguments: Sequence[str]) -> None:
    """Writes the graph; exits 1 where there can be none, 2 for usage."""
    program.run_command(COMMAND, Options(), _freeze, arguments)


def _freeze(options: Options) -> None:
    program.require_extra(COMMAND, "node", ["numpy", "tensorflow"])
    settings = located(ModelSettings(place_of(options["model"])))
    kind = format_of(settings)
    if kind not in (SAVED_MODEL, KERAS):
        raise ModelUnusable(
            f"{settings.path}: got a model of format {kind.name}, wanted a SavedModel or a Keras "
            "model"
        )
    definition = kind.imported().freeze(settings, options["signature"] or "")
    if definition.ByteSize() > MOST_BYTES:
        raise ModelUnusable(
            f"{settings.path}: its graph would have {definition.ByteSize() / 1e6:,.1f} MB, wanted "
            f"{MOST_BYTES / 1e6:,.1f} at most; serve the model as it is"
        )
    place = Path(options["output"] or f"{name_of(settings)}.pb")
    data = definition.SerializeToString()
    machine.write_whole(lambda: [data], place)
    print(f"written: {place}, {len(data) / 1e6:.1f} MB")
    print(f"serve it: smls-node --graph {place} --labels LABELS.txt")
