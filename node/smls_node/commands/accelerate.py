# SPDX-License-Identifier: MIT
"""``smls-node accelerate``: prove ahead of time that OpenVINO gives a model's own answers."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from math import inf
from pathlib import Path
from typing import Any

from twisted.python import usage

from smls import program
from smls.errors import MissingExtra, SmlsError
from smls.folders import cache_folder
from smls_node import machine
from smls_node.options import ModelOptions

COMMAND = "smls-node accelerate"

SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp"}

FEW_IMAGES = 100
"""Of fewer an answer in a lower precision may all be the same by luck: it is told."""


def _part(text: str) -> float:
    """A part of 1, for ``usage.Options``."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1:
        raise ValueError(f"got {text!r}, wanted a number between 0 and 1")
    return number


class Options(ModelOptions):
    """The verb's options; those of the model are the node's."""

    synopsis = f"Usage: {COMMAND} MODEL.pb [--images DIR] [options of the model]"

    longdesc = (
        "Runs a frozen graph in TensorFlow and in OpenVINO, in each precision, compares the "
        "answers on your images, and writes the proof beside the graph, with the network that "
        "OpenVINO has compiled. A node that is started with --accelerate auto takes the fastest "
        "that passed."
    )

    examples = """\
    smls-node accelerate flowers.pb --images photos/
    smls-node --graph flowers.pb --labels flowers.txt --accelerate auto
"""

    optParameters: list[Any] = [
        ["images", None, None, "Folder of images like those that will be served; made-up ones "
         "where left out."],
        ["precisions", None, None, "Precisions to try, of f32, bf16 and i8; with --images all "
         "(i8 needs the extra quantize), without them f32."],
        ["within", None, None, "How far a score may be from TensorFlow's in the lower precisions "
         "[default: 0.05]; 0.001 in f32.", _part],
        ["replicas", None, 1, "How many replicas of a node will share the machine.",
         program.whole_number("replicas", 1, 1024)],
        ["limit", None, None, "Seconds for all of it; what does not fit is not tried, and said.",
         program.seconds("limit")],
        ["findings", None, None, "Folder that keeps what was measured; ~/.cache/smls if left out."],
    ]  # fmt: skip

    def parseArgs(self, *models: str) -> None:
        if models and self["models"]:
            raise usage.UsageError(f"got {models[0]!r} beside --graph; name the model once")
        for path in models:
            self.opt_graph(path)

    def postOptions(self) -> None:
        super().postOptions()
        if len(self["models"]) != 1:
            raise usage.UsageError(f"got {len(self['models'])} models, wanted one: MODEL.pb")
        usual = "f32,bf16,i8" if find_spec("nncf") else "f32,bf16"
        wanted = self["precisions"] or (usual if self["images"] else "f32")
        self["precisions"] = tuple(dict.fromkeys(wanted.split(",")))
        unknown = sorted(set(self["precisions"]) - {"f32", "bf16", "i8"})
        if unknown:
            raise usage.UsageError(f"--precisions: got {unknown[0]!r}, wanted f32, bf16 or i8")
        if "i8" in self["precisions"] and not self["images"]:
            raise usage.UsageError("--precisions: got i8 without --images, which it is made by")


def main(arguments: Sequence[str]) -> None:
    """Makes the proof and prints its table; exits 1 where none can be made, 2 for usage."""
    options = Options()
    try:
        options.parseOptions(_model_first(arguments))
        program.require_extra(COMMAND, "openvino", ["openvino"])
        program.require_extra(COMMAND, "node", ["numpy", "PIL", "tensorflow"])
        if "i8" in options["precisions"]:
            program.require_extra(COMMAND, "quantize", ["nncf"])
    except (usage.UsageError, MissingExtra) as error:
        print(f"{COMMAND}: {error}\nTry '{COMMAND} --help'.", file=sys.stderr)
        sys.exit(2)
    if options["replicas"] > 1:
        os.environ[machine.REPLICAS] = str(options["replicas"])
    try:
        _prove(options)
    except (SmlsError, OSError) as error:
        print(f"{COMMAND}: {error}", file=sys.stderr)
        sys.exit(1)


def _prove(options: Options) -> None:
    from smls_node import acceleration, proving
    from smls_node.loading import files_of
    from smls_node.runtimes import openvino

    bounds = acceleration.WITHIN
    files = files_of(options["models"][0])
    findings = Path(options["findings"] or cache_folder() / "findings")
    within = {
        precision: bounds[precision] if precision == "f32" else options["within"] or bounds["bf16"]
        for precision in options["precisions"]
    }
    limit = options["limit"] or inf
    images = _images(options["images"])
    proof = proving.prove(
        files,
        findings,
        images,
        within,
        limit=limit,
        # What stops this half-way leaves what was proven by then.
        keep=lambda proof: acceleration.write(proof, files, findings),
    )
    chosen = proof.chosen()
    print(f"{files.graph}, on {proof.samples}:\n")
    print(f"{'engine':<28} {'images/s':>9} {'same best':>10} {'score off by':>13}")
    for trial in proof.trials:
        mark = "  <- chosen" if trial == chosen else "" if trial.passed else "  not the same"
        figures = f"{trial.images_per_second:9.1f} {trial.agreement:10.2%} {trial.difference:13.2g}"
        print(f"{trial.name:<28} {trial.problem or figures + mark}")
    print(f"\nwritten: {acceleration.write(proof, files, findings)}")
    is_lower = any(trial.passed and trial.precision != "f32" for trial in proof.trials)
    if is_lower and len(images) < FEW_IMAGES:
        print(
            f"{COMMAND}: got {len(images)} images, which prove little of a lower precision; "
            f"wanted {FEW_IMAGES} or more, like those that will be served",
            file=sys.stderr,
        )
    if (fastest := proof.chosen("openvino")).engine != acceleration.SESSION:
        # It leaves the compiled network for the node, which may be told to take OpenVINO anyway.
        openvino.load(
            files,
            **fastest.how,
            kept=acceleration.compiled(files, findings, proof.key),
            quantized=acceleration.quantized(files, findings, proof.key),
        )


def _images(folder: str | None) -> list[Path]:
    if folder is None:
        return []
    found = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise OSError(f"{folder}: there are no images in this folder")
    return found


def _model_first(arguments: Sequence[str]) -> list[str]:
    """The model is named before the options that belong to it, wherever it stood."""
    rest = list(arguments)
    for index, argument in enumerate(rest):
        if argument.endswith(".pb") and (index == 0 or not rest[index - 1].startswith("--")):
            return ["--graph", rest.pop(index), *rest]
    return rest


if __name__ == "__main__":
    main(sys.argv[1:])
