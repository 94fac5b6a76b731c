# SPDX-License-Identifier: MIT
"""Which requests become one run, and that nobody notices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from smls.errors import NodeFault
from smls.tensors import Tensors, TensorSpec
from smls_node.joining import Runner
from smls_node.signature import DEFAULT, Inputs, Signature


class Sums:
    """Sums rows of any width; one of the value -1 makes the run fail, and -2 the node's part."""

    process = problem = ""

    def __init__(self) -> None:
        takes, gives = TensorSpec("x", "FP64", (-1, -1)), TensorSpec("sum", "FP64", (-1,))
        whole = Signature((TensorSpec("x", "FP64", (-1, -1)),), (TensorSpec("all", "FP64", ()),))
        self.signatures: Mapping[str, Signature] = {
            DEFAULT: Signature((takes,), (gives,)),
            "whole": Signature(whole.inputs, whole.outputs, batches=False),
        }
        self.example = {"x": np.zeros((1, 1))}
        self.runs: list[tuple[int, ...]] = []

    def infer(self, inputs: Tensors, signature: str, parameters: Mapping[str, Any]) -> Tensors:
        values = inputs["x"]
        self.runs.append(values.shape)
        if (values == -1).any():
            raise ValueError("negative")
        if (values == -2).any():
            raise NodeFault("the process is gone")
        if signature == "whole":
            return {"all": values.sum()}
        return {"sum": values.sum(axis=1) + parameters.get("more", 0)}

    def unload(self) -> None: ...


def asked(*values: float, rows: int = 1, signature: str = DEFAULT, **parameters: Any) -> Inputs:
    return Inputs({"x": np.array([values] * rows, float)}, rows, signature, parameters)


requests = st.lists(
    st.builds(
        lambda values, rows: asked(*values, rows=rows),
        st.lists(st.sampled_from([1.0, 2.0, -1.0]), min_size=1, max_size=3),
        st.integers(1, 3),
    ),
    max_size=12,
)


@given(requests)
def test_each_gets_what_it_would_get_alone(batch: list[Inputs]) -> None:
    answers = Runner(Sums())(batch)
    assert len(answers) == len(batch)
    for each, answer in zip(batch, answers, strict=True):
        (alone,) = Runner(Sums())([each])
        if isinstance(alone, Exception):
            assert str(answer) == str(alone) == "negative"
        else:
            assert isinstance(answer, dict)
            assert np.array_equal(answer["sum"], alone["sum"])
            assert len(answer["sum"]) == each.rows


def test_those_alike_are_one_run_and_others_another() -> None:
    model = Sums()
    Runner(model)([asked(1, 2), asked(1), asked(3, 4, rows=5), asked(2)])
    assert model.runs == [(6, 2), (2, 1)]


def test_who_brings_parameters_or_has_rows_that_know_of_each_other_runs_alone() -> None:
    model = Sums()
    first, second, third = Runner(model)(
        [asked(1, more=3), asked(1), asked(1, 1, rows=2, signature="whole")]
    )
    assert model.runs == [(1, 1), (1, 1), (2, 2)]
    assert (first["sum"][0], second["sum"][0], third["all"]) == (4, 1, 4)  # type: ignore[index]


def test_runs_are_padded_with_the_last_row_and_the_padding_dropped() -> None:
    model = Sums()
    answers = Runner(model, lambda rows: 8)([asked(1), asked(2, rows=2)])
    assert model.runs == [(8, 1)]
    assert [answer["sum"].tolist() for answer in answers] == [[1], [2, 2]]  # type: ignore[index]


def test_a_fault_of_the_node_is_everybodys_and_tried_once() -> None:
    model = Sums()
    answers = Runner(model)([asked(1), asked(-2), asked(3)])
    assert [str(answer) for answer in answers] == ["the process is gone"] * 3
    assert len(model.runs) == 1


def test_a_model_that_gives_another_number_of_rows_fails_that_run_alone() -> None:
    model = Sums()
    runner = Runner(model)
    model.infer = lambda inputs, signature, parameters: {"sum": np.zeros(3)}  # type: ignore[method-assign]
    (answer,) = runner([asked(1)])
    assert str(answer) == "the model gave 3 rows of sum for 1 rows"
