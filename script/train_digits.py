#!/usr/bin/env python
# SPDX-License-Identifier: MIT
"""Train the embedded model: a small convolutional network that reads handwritten digits.

To run it again, in a checkout of the project::

    pip install 'simple-ml-serving[node]' scikit-learn
    python script/train_digits.py            # train, measure, write (some minutes on two cores)
    python script/train_digits.py --check    # only measure the model that is there

scikit-learn holds the data (its handwritten digits, 8x8 pixels of 0-16); it is needed here and
never to serve the model.

The digits are split once, by sample, into a training part and a held-out part, so that no
rendering of a held-out digit is ever trained on.  (The same writers are in both: the data does
not say who wrote what.)  Each is then rendered the way a client might send it: value * 255/16,
bright on black or inverted, scaled up to an image of 32 to 1600 pixels, now and then with a
margin that makes it oblong, and written as a JPEG file.  What is trained and measured is what
the node makes of that file.

Written are ``digits.pb`` (a frozen GraphDef: ``input``, float32[N, 32, 32, 3] in 0-1, to
``final_result``, float32[N, 10]), ``digits_labels.txt``, the record ``digits.json``, and the
sample images in ``examples/digits``.  The seeds are fixed and TensorFlow's operations are made
deterministic: the same versions on the same kind of processor write the same files.
"""

import argparse
import hashlib
import io
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

# TensorFlow's own notes at start say nothing about the training.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import numpy.typing as npt
import PIL
import sklearn
import tensorflow as tf
from PIL import Image, ImageOps
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from smls_node import images

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Weights = Mapping[str, Any]

ROOT: Final = Path(__file__).resolve().parent.parent
EMBEDDED: Final = ROOT / "node" / "smls_node" / "embedded"
EXAMPLES: Final = ROOT / "examples" / "digits"

#: Height and width of the network's input, in pixels.
SIDE: Final = 32
CLASSES: Final = 10
#: What the node makes of an image for this network: RGB pixels / 255.
PIXELS: Final = images.PixelSpec(height=SIDE, width=SIDE, channels=3, mean=0.0, std=255.0)
INPUT: Final = "input"
OUTPUT: Final = "final_result"

SPLIT_SEED: Final = 20
RENDER_SEED: Final = 21
TRAIN_SEED: Final = 22
HELD_OUT: Final = 0.25

#: Sides of the images the accuracy is measured on, in pixels.
SIZES: Final = (32, 64, 200, 640, 1600)
#: The accuracy the project asks for, over all sizes, on the held-out images.
WANTED: Final = 0.98

VARIANTS: Final = 20
EPOCHS: Final = 24
BATCH: Final = 128
LEARNING_RATE: Final = 2e-3

FILTERS: Final = (
    Image.Resampling.NEAREST,
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
)


# The data ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Digits:
    """Handwritten digits and what they are."""

    #: uint8[N, 8, 8], bright (255) on black (0).
    pixels: Pixels
    #: int64[N], 0-9.
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)


def split_digits() -> tuple[Digits, Digits]:
    """The digits to train on and those held out, each digit in the same proportion in both."""
    data = load_digits()
    pixels = np.rint(data.images * (255 / 16)).astype(np.uint8)
    labels = data.target.astype(np.int64)
    train, held_out = train_test_split(
        np.arange(len(labels)), test_size=HELD_OUT, random_state=SPLIT_SEED, stratify=labels
    )
    return Digits(pixels[train], labels[train]), Digits(pixels[held_out], labels[held_out])


# Rendering: from 8x8 pixels to an image file --------------------------------------------------


@dataclass(frozen=True)
class Rendering:
    """How one digit becomes an image file."""

    #: The longer side of the image, in pixels.
    side: int
    inverted: bool
    resample: Image.Resampling = Image.Resampling.BICUBIC
    #: Width over height.  Above 1 there is a margin left and right, below 1 above and below.
    aspect: float = 1.0
    #: Whether the file holds three channels or one.
    colour: bool = True
    quality: int = 90
    format: str = "JPEG"


def random_rendering(rng: np.random.Generator, side: int, inverted: bool) -> Rendering:
    """A rendering of that side and polarity, the rest of it drawn from `rng`."""
    # One in five is oblong, up to 4:3, standing or lying.
    aspect = float(rng.uniform(0.75, 1.0)) if rng.random() < 0.2 else 1.0
    return Rendering(
        side=side,
        inverted=inverted,
        resample=FILTERS[rng.integers(len(FILTERS))],
        aspect=1 / aspect if rng.random() < 0.5 else aspect,
        colour=bool(rng.random() < 0.5),
        quality=int(rng.integers(75, 96)),
    )


def render(pixels: Pixels, how: Rendering) -> bytes:
    """The image file of one digit, uint8[8, 8]."""
    long, short = how.side, round(how.side * min(how.aspect, 1 / how.aspect))
    digit = Image.fromarray(pixels).resize((short, short), how.resample)
    size = (long, short) if how.aspect > 1 else (short, long)
    image = Image.new("L", size, 0)
    image.paste(digit, ((size[0] - short) // 2, (size[1] - short) // 2))
    if how.inverted:
        image = ImageOps.invert(image)
    if how.colour:
        image = image.convert("RGB")
    file = io.BytesIO()
    if how.format == "JPEG":
        image.save(file, how.format, quality=how.quality)
    else:
        image.save(file, how.format, optimize=True)
    return file.getvalue()


# Decoding: from an image file to the network's input ------------------------------------------


def decode(data: bytes) -> Floats:
    """An image file as the node hands it to the network: float32[32, 32, 3] in 0-1."""
    return images.decode(data, PIXELS, max_pixels=4 * max(SIZES) ** 2)


def decode_scaled(data: bytes) -> Floats:
    """As `decode`, but a JPEG is read at the smallest scale (to 1/8) that is large enough."""
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (SIDE, SIDE))
    return _to_floats(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def decode_sampled(data: bytes) -> Floats:
    """As `decode`, but bilinear between four pixels only, as TensorFlow resizes."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    steps = (image.width / SIDE, 0, 0, 0, image.height / SIDE, 0)
    return _to_floats(
        image.transform((SIDE, SIDE), Image.Transform.AFFINE, steps, Image.Resampling.BILINEAR)
    )


def decode_nearest(data: bytes) -> Floats:
    """As `decode`, but each pixel is the nearest one of the image."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return _to_floats(image.resize((SIDE, SIDE), Image.Resampling.NEAREST))


def _to_floats(image: Image.Image) -> Floats:
    """As `PIXELS` says, float32[32, 32, 3]."""
    return (np.asarray(image, np.float32) - np.float32(PIXELS.mean)) / np.float32(PIXELS.std)


#: What is trained on and how often: the serving path first of all, and some of its neighbours,
#: so that another way of scaling down does not change the answer.
DECODERS: Final[Sequence[tuple[Callable[[bytes], Floats], float]]] = (
    (decode, 0.55),
    (decode_scaled, 0.2),
    (decode_sampled, 0.15),
    (decode_nearest, 0.1),
)


# The training set -----------------------------------------------------------------------------


def training_images(digits: Digits) -> tuple[Pixels, Labels]:
    """Every digit rendered `VARIANTS` times: uint8[N, 32, 32] grey, and int64[N].

    They are rendered once: a large image takes a hundred times as long as one training step of
    it.  uint8 loses nothing, the decoded images being of 256 levels.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        variants = list(pool.map(_variants, range(len(digits)), digits.pixels))
    return np.concatenate(variants), np.repeat(digits.labels, VARIANTS)


def _variants(index: int, pixels: Pixels) -> Pixels:
    """The training images of one digit, uint8[VARIANTS, 32, 32], half of them inverted."""
    # Seeded by the digit, so that the order the threads run in does not matter.
    rng = np.random.default_rng((RENDER_SEED, index))
    shares = [share for _, share in DECODERS]
    variants = np.empty((VARIANTS, SIDE, SIDE), np.uint8)
    for variant in range(VARIANTS):
        how = random_rendering(rng, _random_side(rng), inverted=variant % 2 == 1)
        decoder = DECODERS[rng.choice(len(DECODERS), p=shares)][0]
        grey = decoder(render(pixels, how)).mean(axis=2)
        variants[variant] = np.rint(grey * 255)
    return variants


def _random_side(rng: np.random.Generator) -> int:
    """A side of 32 to 1600 pixels, mostly small: large ones are slow and look alike at 32x32."""
    low, high = (32, 320) if rng.random() < 0.85 else (320, 1600)
    return round(float(np.exp(rng.uniform(np.log(low), np.log(high)))))


def augment(grey: Pixels, rng: np.random.Generator) -> Any:
    """uint8[N, 32, 32] to a float32[N, 32, 32, 1] in 0-1, each a little moved, lit and grained."""
    count = len(grey)
    batch = grey[..., None].astype(np.float32) / 255
    batch = tf.raw_ops.ImageProjectiveTransformV3(
        images=batch,
        transforms=_transforms(count, rng),
        output_shape=(SIDE, SIDE),
        interpolation="BILINEAR",
        fill_mode="NEAREST",
        fill_value=0.0,
    )

    def each(low: float, high: float) -> Floats:
        return rng.uniform(low, high, (count, 1, 1, 1)).astype(np.float32)

    contrast, brightness, grain = each(0.7, 1.1), each(-0.1, 0.1), each(0, 0.04)
    noise = grain * rng.standard_normal(batch.shape, np.float32)
    return tf.clip_by_value((batch - 0.5) * contrast + 0.5 + brightness + noise, 0.0, 1.0)


def _transforms(count: int, rng: np.random.Generator) -> Floats:
    """Small turns, slants, stretches and shifts about the centre, float32[count, 8].

    A row is a projective transform [a, b, c, d, e, f, 0, 0]: output pixel (x, y) is taken from
    (a x + b y + c, d x + e y + f).
    """
    angle, slant = rng.uniform(-0.17, 0.17, (2, count))
    across, down = rng.uniform(0.88, 1.12, (2, count))
    a, b = np.cos(angle) * across, -np.sin(angle) + slant
    d, e = np.sin(angle), np.cos(angle) * down
    shift_x, shift_y = rng.uniform(-2.5, 2.5, (2, count))
    centre = (SIDE - 1) / 2
    rows = [
        a, b, centre - a * centre - b * centre + shift_x,
        d, e, centre - d * centre - e * centre + shift_y,
        np.zeros(count), np.zeros(count),
    ]  # fmt: skip
    return np.stack(rows, axis=1).astype(np.float32)


# The network ----------------------------------------------------------------------------------

#: Shape of each kernel: [height, width, channels in, channels out], or [in, out].  Each has a
#: bias of its channels out.
KERNELS: Final[Mapping[str, tuple[int, ...]]] = {
    "conv1": (5, 5, 1, 16),
    "conv2": (3, 3, 16, 32),
    "conv3": (3, 3, 32, 48),
    "hidden": (4 * 4 * 48, 56),
    "logits": (56, CLASSES),
}


def network(batch: Any, weights: Weights, dropout: float = 0.0) -> Any:
    """Logits, float32[N, 10], of a batch, float32[N, 32, 32, C] in 0-1.

    The same function makes the graph that is trained (C = 1, weights variables) and the one that
    is shipped (C = 3, weights constants).
    """

    def add_bias(name: str, x: Any) -> Any:
        return tf.nn.bias_add(x, weights[f"{name}/bias"], name=f"{name}/sum")

    def conv(name: str, x: Any, stride: int = 1) -> Any:
        kernel = weights[f"{name}/kernel"]
        x = tf.nn.conv2d(x, kernel, stride, "SAME", name=f"{name}/product")
        return tf.nn.relu(add_bias(name, x), name=f"{name}/relu")

    def dense(name: str, x: Any) -> Any:
        x = tf.matmul(x, weights[f"{name}/kernel"], name=f"{name}/product")
        return add_bias(name, x)

    # The digits have 8x8 pixels, so that nothing is lost by the stride of the first.
    x = conv("conv1", batch, stride=2)
    x = tf.nn.max_pool2d(conv("conv2", x), 2, 2, "SAME", name="pool2")
    x = tf.nn.max_pool2d(conv("conv3", x), 2, 2, "SAME", name="pool3")
    x = tf.reshape(x, [-1, KERNELS["hidden"][0]], name="flat")
    if dropout:
        x = tf.nn.dropout(x, dropout)
    x = tf.nn.relu(dense("hidden", x), name="hidden/relu")
    if dropout:
        x = tf.nn.dropout(x, dropout)
    return dense("logits", x)


def new_weights(rng: np.random.Generator) -> dict[str, Any]:
    """Variables for `network`, the kernels drawn after He, the biases 0."""
    weights = {}
    for name, shape in KERNELS.items():
        deviation = np.sqrt(2 / np.prod(shape[:-1]))
        kernel = rng.normal(0, deviation, shape).astype(np.float32)
        weights[f"{name}/kernel"] = tf.Variable(kernel)
        weights[f"{name}/bias"] = tf.Variable(np.zeros(shape[-1], np.float32))
    return weights


def train(grey: Pixels, labels: Labels, epochs: int) -> dict[str, Floats]:
    """The weights `network` has after training on uint8[N, 32, 32] and int64[N]."""
    tf.keras.utils.set_random_seed(TRAIN_SEED)
    tf.config.experimental.enable_op_determinism()
    rng = np.random.default_rng(TRAIN_SEED)
    weights = new_weights(rng)
    variables = list(weights.values())
    steps = len(labels) // BATCH
    optimizer = tf.keras.optimizers.AdamW(
        tf.keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps * epochs),
        weight_decay=1e-3,
        use_ema=True,
        ema_momentum=0.998,
    )
    optimizer.build(variables)

    def step(batch: Any, truth: Any) -> Any:
        with tf.GradientTape() as tape:
            logits = network(batch, weights, dropout=0.25)
            # Some doubt (0.05) is left in each label, as the digits themselves leave some.
            target = tf.one_hot(truth, CLASSES, 0.95 + 0.05 / CLASSES, 0.05 / CLASSES)
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(target, logits))
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    compiled = tf.function(step)
    for epoch in range(epochs):
        order = rng.permutation(len(labels))[: steps * BATCH].reshape(steps, BATCH)
        losses = [compiled(augment(grey[rows], rng), labels[rows]) for rows in order]
        print(f"epoch {epoch + 1:3}/{epochs}: loss {np.mean(losses):.4f}", flush=True)
    optimizer.finalize_variable_values(variables)
    return {name: variable.numpy() for name, variable in weights.items()}


def freeze(weights: Mapping[str, Floats]) -> bytes:
    """The serialized GraphDef of `network` with these weights, from `INPUT` to `OUTPUT`."""
    # Trained on grey, served RGB: a third of the kernel on each channel is the kernel on their
    # mean.
    rgb = dict(weights)
    rgb["conv1/kernel"] = (np.repeat(weights["conv1/kernel"], 3, axis=2) / 3).astype(np.float32)
    with tf.Graph().as_default() as graph:
        batch = tf.compat.v1.placeholder(tf.float32, [None, SIDE, SIDE, 3], name=INPUT)
        constants = {name: tf.constant(value, tf.float32, name=name) for name, value in rgb.items()}
        tf.nn.softmax(network(batch, constants), name=OUTPUT)
        data: bytes = graph.as_graph_def().SerializeToString(deterministic=True)
    return data


# Measuring ------------------------------------------------------------------------------------


class Model:
    """A frozen graph, read as label_image reads it."""

    def __init__(self, graph_def: bytes) -> None:
        definition = tf.compat.v1.GraphDef.FromString(graph_def)
        graph = tf.Graph()
        with graph.as_default():
            tf.import_graph_def(definition, name="")
        self._session = tf.compat.v1.Session(graph=graph)

    def __call__(self, batch: Floats) -> Floats:
        """Probabilities, float32[N, 10], of a batch, float32[N, 32, 32, 3] in 0-1."""
        answers: Floats = self._session.run(f"{OUTPUT}:0", {f"{INPUT}:0": batch})
        return answers


@dataclass(frozen=True)
class Score:
    """What a model made of the held-out digits at one size and polarity."""

    size: int
    inverted: bool
    #: How many images there were.
    images: int
    #: How many of them it read right.
    right: int
    #: On how many of them scaled decoding led to the same answer, right or wrong.
    agreeing: int


def held_out_files(size: int, count: int) -> list[bytes]:
    """JPEG files of the first ``count`` held-out digits, ``size`` pixels a side, in turn bright
    on black and inverted: what ``bench/decode.py`` measures with."""
    _, digits = split_digits()
    rng = np.random.default_rng(RENDER_SEED)
    return [
        render(pixels, random_rendering(rng, size, index % 2 == 1))
        for index, pixels in enumerate(digits.pixels[:count])
    ]


def evaluate(model: Model, digits: Digits, size: int, inverted: bool) -> Score:
    """Render each digit as a JPEG file of that size, decode it, and ask the model."""

    def both_ways(index: int) -> tuple[Floats, Floats]:
        rng = np.random.default_rng((RENDER_SEED, size, inverted, index))
        data = render(digits.pixels[index], random_rendering(rng, size, inverted))
        return decode(data), decode_scaled(data)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        full, scaled = zip(*pool.map(both_ways, range(len(digits))), strict=True)
    answers = model(np.stack(full)).argmax(axis=1)
    others = model(np.stack(scaled)).argmax(axis=1)
    return Score(
        size=size,
        inverted=inverted,
        images=len(digits),
        right=int((answers == digits.labels).sum()),
        agreeing=int((answers == others).sum()),
    )


def evaluate_all(model: Model, digits: Digits, sizes: Iterable[int] = SIZES) -> list[Score]:
    """The scores at each of these sizes, bright on black and inverted."""
    return [evaluate(model, digits, size, inverted) for size in sizes for inverted in (False, True)]


def accuracy(scores: Sequence[Score]) -> float:
    """The share of all images that were read right, 0-1."""
    return sum(score.right for score in scores) / sum(score.images for score in scores)


def agreement(scores: Sequence[Score]) -> float:
    """The share of all images on which full and scaled decoding agree, 0-1."""
    return sum(score.agreeing for score in scores) / sum(score.images for score in scores)


def table(scores: Sequence[Score]) -> str:
    """The scores as text: one line a size, and one for all."""
    lines = ["  pixels   bright  inverted     both   scaled decoding agrees"]
    for size in sorted({score.size for score in scores}):
        rows = [score for score in scores if score.size == size]
        bright = accuracy([score for score in rows if not score.inverted])
        inverted = accuracy([score for score in rows if score.inverted])
        lines.append(
            f"{size:8}  {bright:7.2%}   {inverted:7.2%}  {accuracy(rows):7.2%}"
            f"                  {agreement(rows):7.2%}"
        )
    lines.append(f"     all{accuracy(scores):29.2%}{agreement(scores):25.2%}")
    return "\n".join(lines)


# Writing --------------------------------------------------------------------------------------


def record(graph: bytes, scores: Sequence[Score], trained: int, epochs: int) -> dict[str, Any]:
    """What ``digits.json`` says of the model and of how it came to be."""
    return {
        "model": {
            "file": "digits.pb",
            "bytes": len(graph),
            "sha256": hashlib.sha256(graph).hexdigest(),
            "input": {"name": INPUT, "shape": [-1, SIDE, SIDE, 3], "dtype": "float32"},
            "output": {"name": OUTPUT, "shape": [-1, CLASSES], "dtype": "float32"},
            "mean": PIXELS.mean,
            "std": PIXELS.std,
        },
        "data": {
            "source": "sklearn.datasets.load_digits",
            "digits": {"train": trained, "held_out": scores[0].images},
            "images": {
                "train": trained * VARIANTS,
                "held_out": sum(score.images for score in scores),
            },
        },
        "training": {
            "epochs": epochs,
            "batch": BATCH,
            "learning_rate": LEARNING_RATE,
            "seeds": {"split": SPLIT_SEED, "render": RENDER_SEED, "train": TRAIN_SEED},
        },
        "accuracy": {
            "overall": round(accuracy(scores), 5),
            "scaled_decoding_agrees": round(agreement(scores), 5),
            "by_size": [
                {
                    "size": score.size,
                    "inverted": score.inverted,
                    "accuracy": round(score.right / score.images, 5),
                    "scaled_decoding_agrees": round(score.agreeing / score.images, 5),
                }
                for score in scores
            ],
        },
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "scikit-learn": sklearn.__version__,
            "numpy": np.__version__,
            "pillow": PIL.__version__,
        },
    }


#: The sample images: each a held-out digit of that label, which its name begins with.
SAMPLES: Final[Mapping[str, tuple[int, Rendering]]] = {
    "three.jpg": (3, Rendering(200, inverted=False)),
    "seven.jpg": (7, Rendering(64, inverted=False, resample=Image.Resampling.BILINEAR)),
    "four-oblong.jpg": (4, Rendering(320, inverted=False, aspect=4 / 3)),
    "eight-large.jpg": (8, Rendering(800, inverted=True, quality=85)),
    "five-inverted.png": (
        5,
        Rendering(
            160, inverted=True, resample=Image.Resampling.NEAREST, colour=False, format="PNG"
        ),
    ),
    "two.gif": (2, Rendering(96, inverted=False, colour=False, format="GIF")),
}


def write_samples(digits: Digits, folder: Path) -> None:
    """Write the `SAMPLES` into that folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (label, how) in SAMPLES.items():
        alike = digits.pixels[digits.labels == label]
        # The one nearest the mean of them: people are to see at once what it is.
        distances = np.square(alike - alike.mean(axis=0)).sum(axis=(1, 2))
        (folder / name).write_bytes(render(alike[distances.argmin()], how))


def write_model(graph: bytes, facts: Mapping[str, Any], folder: Path) -> None:
    """Write the graph, its labels and its record into that folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "digits.pb").write_bytes(graph)
    (folder / "digits_labels.txt").write_text("".join(f"{n}\n" for n in range(CLASSES)), "utf-8")
    (folder / "digits.json").write_text(json.dumps(facts, indent=2) + "\n", "utf-8")


# The command ----------------------------------------------------------------------------------


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Train the embedded digits model, measure it on held-out JPEG files and "
        "write it into the package.",
        epilog=f"Exits with 1 where the accuracy is below {WANTED:.0%}.",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="train and write nothing: measure the model that is there",
    )
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        metavar="PIXELS",
        help="with --check: sides of the images to measure on "
        f"(default: {' '.join(map(str, SIZES))})",
    )
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="default: %(default)s")
    parser.add_argument(
        "--out", type=Path, default=EMBEDDED, help="folder of the model (default: in the package)"
    )
    parser.add_argument(
        "--examples",
        type=Path,
        default=EXAMPLES,
        help="folder for the sample images (default: examples/digits)",
    )
    options = parser.parse_args(argv)
    if options.sizes and not options.check:
        parser.error("--sizes goes with --check: a model is recorded with all of them")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Train, or check; the exit status."""
    options = arguments(argv)
    training, held_out = split_digits()
    if options.check:
        graph = (options.out / "digits.pb").read_bytes()
    else:
        start = time.monotonic()
        print(f"rendering {len(training)} digits {VARIANTS} times", flush=True)
        grey, labels = training_images(training)
        print(f"rendered in {time.monotonic() - start:.0f} s", flush=True)
        graph = freeze(train(grey, labels, options.epochs))
        print(f"trained in {time.monotonic() - start:.0f} s with the rendering")
    print(f"reading {len(held_out)} held-out digits from JPEG files", flush=True)
    scores = evaluate_all(Model(graph), held_out, options.sizes or SIZES)
    print(table(scores))
    if not options.check:
        write_model(graph, record(graph, scores, len(training), options.epochs), options.out)
        write_samples(held_out, options.examples)
        print(f"written: {len(graph)} bytes of graph")
    return 0 if accuracy(scores) >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
