# SPDX-License-Identifier: MIT
"""The three networks, as frozen label_image graphs: tiny, small and large.

MobileNetV2 and InceptionV3 are built from Keras Applications with seeded random weights: nothing is
downloaded, and a weight costs the same whatever its value. What a trained network has besides is
given to them by arithmetic: normalisations that fit the photos, so that activations have the usual
spread, and two of the thousand labels that tell the two pictures apart with some certainty. So a
wrong answer is seen, and neither another decoder nor a little less precision changes one.

``python -m bench.models NAME`` builds one; a child process does it, and takes Keras away with it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import environments
from bench.places import DIGITS, MODELS, PHOTOS, ROOT

SEED = 7
CLASSES = 1000
OFFSET = 2.0
"""Added to each normalised activation. Random weights around zero are chaotic: two decoders' grey
levels would give two answers. Where nearly all of a rectifier's input is positive they are not."""

SPREAD, MARGIN = 0.7, 8.0
"""Standard deviation of the random labels' logits, and the logit of the right label."""

PICTURES = ("china", "flower")
"""scikit-learn's two pictures: the first two labels."""

NAMES = ("mobilenet_v2", "inception_v3", "digits")

_SIDES = {"mobilenet_v2": 224, "inception_v3": 299}


@dataclass(frozen=True)
class Model:
    """One network: its files, its layers, the images to send it, and how many at once."""

    name: str
    title: str
    graph: str
    labels: str
    input_layer: str
    output_layer: str
    side: int
    images: str
    concurrencies: tuple[int, ...]
    batches: tuple[int, ...]
    answers: tuple[str, ...]
    """The right label for each image."""

    @property
    def saved(self) -> Path:
        """The same network as a SavedModel, of those that are built here."""
        return Path(self.graph).with_suffix(".savedmodel")

    @property
    def busiest(self) -> int:
        """The highest concurrency that is measured."""
        return max(self.concurrencies)

    def image_files(self) -> list[Path]:
        """The JPEG files, in order."""
        return sorted(Path(self.images).glob("*.jpg"))

    def digest(self) -> str:
        """The hash of the graph."""
        return hashlib.sha256(Path(self.graph).read_bytes()).hexdigest()

    def to_json(self) -> str:
        """For a child process; see ``from_json``."""
        return json.dumps(asdict(self))


def from_json(text: str) -> Model:
    """The model that ``Model.to_json`` wrote."""
    values = json.loads(text)
    for name in ("concurrencies", "batches", "answers"):
        values[name] = tuple(values[name])
    return Model(**values)


def model(name: str) -> Model:
    """The model of that name, built now where it is not there yet. The images must be there."""
    if name == "digits":
        return _digits()
    directory = MODELS / name
    if not (directory / f"{name}.savedmodel").exists():
        print(f"building {name}", flush=True)
        command = [sys.executable, "-m", "bench.models", name]
        done = subprocess.run(
            command, cwd=ROOT, env=environments.variables(), capture_output=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"cannot build {name}: {done.stderr[-600:].decode()}")
    return Model(
        name=name,
        title={"mobilenet_v2": "MobileNetV2", "inception_v3": "InceptionV3"}[name],
        graph=str(directory / f"{name}.pb"),
        labels=str(directory / "labels.txt"),
        input_layer="input",
        output_layer="scores",
        side=_SIDES[name],
        images=str(PHOTOS),
        concurrencies=(1, 8, 32),
        batches=(1, 8),
        answers=tuple((PHOTOS / "answers.txt").read_text().split()),
    )


def _digits() -> Model:
    """The network that comes with the node; a copy, beside which a proof may be written."""
    from smls_node import embedded

    directory = MODELS / "digits"
    directory.mkdir(parents=True, exist_ok=True)
    for file in (embedded.GRAPH, embedded.LABELS):
        shutil.copyfile(file, directory / file.name)
    return Model(
        name="digits",
        title="digits",
        graph=str(directory / embedded.GRAPH.name),
        labels=str(directory / embedded.LABELS.name),
        input_layer="input",
        output_layer="final_result",
        side=32,
        images=str(DIGITS),
        concurrencies=(1, 8, 64),
        batches=(1, 8, 32),
        answers=tuple((DIGITS / "answers.txt").read_text().split()),
    )


def build(name: str, directory: Path) -> None:
    """Writes ``NAME.pb`` (``input``: float32[N, side, side, 3] in 0-1, ``scores``), labels, and the
    same as a SavedModel."""
    import numpy as np
    import tensorflow as tf
    from PIL import Image
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    keras: Any = tf.keras
    side = _SIDES[name]
    keras.utils.set_random_seed(SEED)
    applications = {
        "mobilenet_v2": keras.applications.MobileNetV2,
        "inception_v3": keras.applications.InceptionV3,
    }
    network = applications[name](
        weights=None, classes=CLASSES, input_shape=(side, side, 3), classifier_activation=None
    )
    pixels = np.stack(
        [
            np.asarray(
                Image.open(file).convert("RGB").resize((side, side), Image.Resampling.BILINEAR),
                np.float32,
            )
            / 255
            for file in sorted(PHOTOS.glob("*.jpg"))
        ]
    )
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
            layer.beta.assign(tf.fill(layer.beta.shape, OFFSET))
    network(pixels * 2 - 1, training=True)
    head = network.layers[-1]
    pooled = keras.Model(network.input, head.input)(pixels * 2 - 1, training=False).numpy()
    answers = (PHOTOS / "answers.txt").read_text().split()
    head.set_weights(_head(pooled, answers, head.get_weights()[0]))

    def scores(images: Any) -> Any:
        return tf.nn.softmax(network(images * 2.0 - 1.0, training=False))

    traced = tf.function(scores).get_concrete_function(
        tf.TensorSpec([None, side, side, 3], tf.float32, name="input")
    )
    frozen = convert_variables_to_constants_v2(traced)
    definition = frozen.graph.as_graph_def()
    _rename(definition, frozen.outputs[0].op.name, "scores")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.pb").write_bytes(definition.SerializeToString(deterministic=True))
    names = [*PICTURES, *(f"class {index:03}" for index in range(len(PICTURES), CLASSES))]
    (directory / "labels.txt").write_text("\n".join(names) + "\n")
    archive = keras.export.ExportArchive()
    archive.track(network)
    archive.add_endpoint("serve", scores, [tf.TensorSpec([None, side, side, 3], tf.float32)])
    archive.write_out(str(directory / f"{name}.savedmodel"), verbose=False)


def _head(pooled: Any, answers: list[str], random: Any) -> list[Any]:
    """The last layer's weights: a linear classifier in two columns, random ones in the others."""
    import numpy as np

    middle = pooled.mean(axis=0)
    centred = pooled - middle
    wanted = np.array([1.0 if answer == PICTURES[0] else -1.0 for answer in answers])
    # Ridge regression in its dual form: there are fewer photos than features.
    gram = centred @ centred.T
    ridge = 0.03 * np.trace(gram) / len(gram) * np.eye(len(gram))
    direction = centred.T @ np.linalg.solve(gram + ridge, wanted)
    certainty = (centred @ direction * wanted).min()
    if certainty <= 0.6:
        raise ValueError(f"the photos cannot be told apart: {certainty:.2f}")
    kernel = random * (SPREAD / (centred @ random).std())
    kernel[:, 0], kernel[:, 1] = MARGIN * direction, -MARGIN * direction
    return [kernel.astype(np.float32), (-middle @ kernel).astype(np.float32)]


def _rename(definition: Any, old: str, new: str) -> None:
    """Gives the node that nothing else uses, the graph's end, its name."""
    for node in definition.node:
        if node.name == old:
            node.name = new


if __name__ == "__main__":
    build(sys.argv[1], MODELS / sys.argv[1])
