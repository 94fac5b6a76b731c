# SPDX-License-Identifier: MIT
"""A frozen graph whose convolutions and products are computed in 8-bit integers (``i8``).

NNCF runs the graph on sample images, notes between which values each tensor moves, and spreads 256
steps over them; the weights are rounded to integers, and biases shifted by what that moves on
average (Nagel et al., "A White Paper on Neural Network Quantization", 2021, sections 3 and 4.2).
What was noted cannot be found again without the images, so the network is kept for all starts.

A process of its own does it: NNCF prints what it does and changes Python's loggers.
"""

from __future__ import annotations

import pickle
import struct
import subprocess
import sys
from collections.abc import Sequence
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smls.errors import ModelUnusable
from smls_node import machine
from smls_node.kept import Kept
from smls_node.runtimes import GraphFiles

I8 = "i8"

MOST_IMAGES = 300
"""More images find no other ranges."""

_LENGTH = struct.Struct("<q")


def quantize(
    files: GraphFiles, images: Sequence[NDArray[np.float32]], kept: Kept, limit: float = inf
) -> None:
    """Quantizes the graph by what it does with ``images``, float32[H, W, C] each, and keeps it.

    :param limit: seconds for it.
    :raises ModelUnusable: where NNCF or OpenVINO cannot, or not in time.
    :raises OSError: where it cannot be kept.
    """
    with TemporaryDirectory(prefix="smls-quantizing-") as folder:
        place = Path(folder)
        (place / "files").write_bytes(pickle.dumps(files))
        np.save(place / "images.npy", np.stack(images[:MOST_IMAGES]))
        try:
            child = subprocess.run(
                [sys.executable, "-m", "smls_node.runtimes.quantizing", folder],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                timeout=None if limit == inf else max(0.0, limit),
            )
        except subprocess.TimeoutExpired as error:
            raise ModelUnusable(f"{files.graph}: not quantized in {error.timeout:.0f} s") from error
        if child.returncode != 0:
            lines = child.stderr.strip().splitlines()
            why = lines[-1] if lines else f"its process ended with status {child.returncode}"
            raise ModelUnusable(f"{files.graph} cannot be quantized: {why}")
        network, weights = (place / "i8.xml").read_bytes(), (place / "i8.bin").read_bytes()
    kept.write(lambda: memoryview(b"".join([weights, network, _LENGTH.pack(len(network))])))


def read(core: Any, files: GraphFiles, kept: Kept | None) -> Any:
    """The network that ``quantize`` has kept, not compiled.

    :raises ModelUnusable: where there is none.
    """
    import openvino

    data = kept.read() if kept is not None else None
    if data is None:
        raise ModelUnusable(
            f"{files.graph}: there is no network in 8-bit integers that holds for it; make one: "
            f"smls-node accelerate {files.graph.name} --images DIR"
        )
    # The weights are first: where they begin, memory is aligned.
    end = len(data) - _LENGTH.size
    begin = end - _LENGTH.unpack(data[end:].tobytes())[0]
    return core.read_model(data[begin:end].tobytes(), openvino.Tensor(data[:begin]))


def _child(folder: Path) -> None:
    """Quantizes; what it fails of is the last line it says."""
    machine.end_with_parent()
    from smls_node.runtimes.openvino import library, network_of

    openvino = library()
    import nncf

    files = pickle.loads((folder / "files").read_bytes())
    images = np.load(folder / "images.npy", mmap_mode="r")
    batches = [images[at : at + 1] for at in range(len(images))]
    try:
        network = nncf.quantize(
            network_of(openvino.Core(), files, -1),
            nncf.Dataset(batches),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(batches),
        )
        openvino.save_model(network, folder / "i8.xml", compress_to_fp16=False)
    except Exception as error:
        sys.exit(" ".join(str(error).split()) or type(error).__name__)


if __name__ == "__main__":
    _child(Path(sys.argv[1]))
