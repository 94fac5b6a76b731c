# SPDX-License-Identifier: MIT
"""The model that comes with the node: handwritten digits, as label_image wants a model.

Two files lie beside this module as package data:

``digits.pb``
    A frozen TensorFlow ``GraphDef``, its weights constants in it.  The one placeholder is
    ``input``, float32[N, 32, 32, 3]: RGB pixels scaled to 0-1 (input mean 0, standard deviation
    255).  The output is ``final_result``, float32[N, 10]: a probability for each label, the
    sum of each row being 1.
``digits_labels.txt``
    The labels in the order of the output's columns, one a line: ``0`` to ``9``.

A third, ``digits.json``, records how the model was trained and how well it does on held-out
images.  All three are written by ``script/train_digits.py`` in the project's source tree.

Importing this module loads nothing: it only says where the files are.
"""

from pathlib import Path
from typing import Final

__all__ = ["GRAPH", "LABELS", "RECORD"]

_HERE: Final = Path(__file__).resolve().parent

#: The frozen graph.
GRAPH: Final[Path] = _HERE / "digits.pb"

#: Its labels, one a line.
LABELS: Final[Path] = _HERE / "digits_labels.txt"

#: The record of its training and accuracy (JSON).
RECORD: Final[Path] = _HERE / "digits.json"
