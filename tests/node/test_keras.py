# SPDX-License-Identifier: MIT
"""Keras' files against Keras itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from smls.errors import ModelUnusable
from smls_node.signature import DEFAULT
from tests.node.formats import asked, check_same, opened, told

pytest.importorskip("tensorflow")

MAKE = """
import sys
import keras
import numpy as np

keras.utils.set_random_seed(0)
left = keras.Input((4,), name="left")
right = keras.Input((2,), name="right")
joined = keras.layers.Concatenate()([left, right])
model = keras.Model([left, right], {"scores": keras.layers.Dense(3, "softmax")(joined)})
for path in sys.argv[2:]:
    model.save(path)
rows = {"left": np.arange(8.0).reshape(2, 4) / 8, "right": np.ones((2, 2))}
np.savez(sys.argv[1], **rows, scores=model.predict(rows, verbose=0)["scores"])
"""
"""In a process of its own: Keras' eager TensorFlow would set up the one of all tests."""


def test_it_answers_as_keras_does(tmp_path: Path) -> None:
    paths = [tmp_path / "m.keras", tmp_path / "m.h5"]
    known = tmp_path / "known.npz"
    subprocess.run([sys.executable, "-c", MAKE, known, *paths], check=True, timeout=120)
    with np.load(known) as archive:
        wanted = dict(archive)
    rows = {name: wanted[name].astype(np.float32) for name in ("left", "right")}
    model = opened(paths[0], tmp_path).runtime
    assert told(model)[0] == {"left": "FP32[?, 4]", "right": "FP32[?, 2]"}
    assert model.signatures[DEFAULT].batches
    check_same(asked(model, rows), {"scores": wanted["scores"]}, 1e-6)
    model.unload()
    whole = paths[1].read_bytes()
    paths[1].write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelUnusable, match=r"m\.h5 is no whole Keras model: ") as error:
        opened(paths[1], tmp_path)
    print(error.value.message)
