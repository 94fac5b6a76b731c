# SPDX-License-Identifier: MIT
"""TensorFlow Serving's own example models, made as SavedModels of TensorFlow 1."""

from __future__ import annotations

from pathlib import Path

REGRESS = "tensorflow/serving/regress"
CLASSIFY = "tensorflow/serving/classify"
PREDICT = "tensorflow/serving/predict"


def save(path: Path, plus: float = 2.0) -> None:
    """A SavedModel at ``path`` of y = x / 2 + ``plus`` and y2 = x / 2 + 3.

    What it predicts with is a tensor; what it classifies and regresses with are serialized
    Examples, which it parses itself.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    v1.logging.set_verbosity(v1.logging.ERROR)
    with tf.Graph().as_default(), v1.Session() as session:
        examples = v1.placeholder(tf.string, [None], "tf_example")
        column = tf.io.FixedLenFeature([1], tf.float32)
        x = tf.identity(tf.io.parse_example(examples, {"x": column})["x"], "x")
        half = v1.get_variable("a", initializer=0.5)
        y = tf.add(half * x, v1.get_variable("b", initializer=plus), "y")
        y2 = tf.add(half * x, v1.get_variable("c", initializer=3.0), "y2")

        def signature(inputs: dict[str, object], outputs: dict[str, object], method: str) -> object:
            info = v1.saved_model.utils.build_tensor_info
            return v1.saved_model.signature_def_utils.build_signature_def(
                {name: info(tensor) for name, tensor in inputs.items()},
                {name: info(tensor) for name, tensor in outputs.items()},
                method,
            )

        regress = signature({"inputs": examples}, {"outputs": y}, REGRESS)
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.builder.SavedModelBuilder(str(path))
        builder.add_meta_graph_and_variables(
            session,
            [tf.saved_model.SERVING],
            signature_def_map={
                "serving_default": signature({"x": x}, {"y": y}, PREDICT),
                "regress_x_to_y": regress,
                "regress_x_to_y2": signature({"inputs": examples}, {"outputs": y2}, REGRESS),
                "classify_x_to_y": signature({"inputs": examples}, {"scores": y}, CLASSIFY),
                # What the examples of the documentation name.
                REGRESS: regress,
            },
        )
        builder.save()
