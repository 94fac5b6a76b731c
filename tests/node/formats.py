# SPDX-License-Identifier: MIT
"""What the tests of the formats share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smls.tensors import Tensors
from smls_node.catalogue import Model
from smls_node.loading import load
from smls_node.means import Means
from smls_node.pools import Beside, Pools
from smls_node.runtimes import Runtime
from smls_node.settings import ModelSettings
from smls_node.signature import DEFAULT


class Here(Beside):
    """Loads in this process what a node loads beside the one that serves."""

    def load(
        self, preloaded: str, load: Callable[..., Runtime], *given: Any, **named: Any
    ) -> Runtime:
        return load(*given, **named)


def means(folder: Path) -> Means:
    return Means(folder / "findings", Pools(), time.monotonic)


def opened(path: Path, folder: Path, **settings: Any) -> Model:
    """The model as a node that serves already loads it, which measures nothing."""
    given = means(folder)
    return load(ModelSettings(path, **settings), given, beside=Here(given.pools))


def asked(model: Runtime, inputs: Tensors, signature: str = DEFAULT) -> Tensors:
    """What it answers, after the checks that a request goes through."""
    model.signatures[signature].rows(inputs)
    return model.infer(inputs, signature, {})


def told(model: Runtime, signature: str = DEFAULT) -> tuple[dict[str, str], dict[str, str]]:
    """The tensors that it takes and gives, as people read them."""
    found = model.signatures[signature]
    return (
        {spec.name: str(spec) for spec in found.inputs},
        {spec.name: str(spec) for spec in found.outputs},
    )


def check_same(got: Tensors, wanted: Mapping[str, NDArray[Any]], within: float = 0.0) -> None:
    """Checks that ``got`` is what the library itself gives, and prints how far it is from it."""
    assert got.keys() == wanted.keys()
    for name, array in wanted.items():
        assert got[name].shape == array.shape
        if array.dtype == object:
            assert got[name].tolist() == array.tolist()
        else:
            assert got[name].dtype == array.dtype
            apart = float(np.abs(got[name].astype(float) - array.astype(float)).max())
            print(f"{name}: max abs difference {apart:.3g}")
            assert apart <= within
