# SPDX-License-Identifier: MIT
"""TorchScript modules against PyTorch itself."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smls.errors import BadRequest, ModelUnusable
from smls_node.settings import Device, Tensor
from smls_node.signature import DEFAULT
from tests.node.formats import asked, check_same, opened, told

ROWS = (Tensor("x", "FP32", (-1, 4)), Tensor("y", "FP32", (-1, 4)))


class Both(torch.nn.Module):
    """Two arguments and a pair of outputs, a matrix product and a sum."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if bool((x < 0).any()):
            raise ValueError("wanted nothing below 0")
        return self.linear(x), (x - y).sum(dim=1)


class Named(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"twice": x * 2, "total": x.sum()}


def saved(path: Path, module: torch.nn.Module) -> Any:
    torch.jit.script(module).save(str(path))
    return module


@pytest.mark.parametrize("names", [("x", "y"), ("INPUT__0", "INPUT__1")])
@pytest.mark.parametrize("threads", [0, 1])
def test_it_answers_as_pytorch_does(tmp_path: Path, names: tuple[str, str], threads: int) -> None:
    module = saved(tmp_path / "m.pt", Both())
    inputs = tuple(Tensor(name, "FP32", (-1, 4)) for name in names)
    outputs = (Tensor("scores", "", ()), Tensor("sum", "", ()))
    found = opened(
        tmp_path / "m.pt",
        tmp_path,
        inputs=inputs[::-1] if names[0] == "x" else inputs,
        outputs=outputs,
        operator_threads=threads,
        runs=2,
    )
    model = found.runtime
    assert told(model)[1] == {"scores": "FP32[?, 3]", "sum": "FP32[?]"}
    assert model.signatures[DEFAULT].batches
    x, y = np.random.default_rng(0).random((2, 5, 4), np.float32)
    x.flags.writeable = False
    with torch.inference_mode():
        scores, total = module(torch.tensor(x), torch.tensor(y))
    wanted = {"scores": scores.numpy(), "sum": total.numpy()}
    given = {names[0]: x, names[1]: y}
    with ThreadPoolExecutor(2) as callers:
        for got in callers.map(lambda _: asked(model, given), range(4)):
            check_same(got, wanted, 1e-6)
    model.unload()


def test_outputs_have_the_modules_own_names(tmp_path: Path) -> None:
    saved(tmp_path / "m.pt", Named())
    model = opened(tmp_path / "m.pt", tmp_path, inputs=ROWS[:1]).runtime
    assert told(model)[1] == {"twice": "FP32[?, 4]", "total": "FP32[]"}
    assert not model.signatures[DEFAULT].batches
    assert asked(model, {"x": np.ones((2, 4), np.float32)})["total"] == 8
    saved(tmp_path / "n.pt", Both())
    model = opened(tmp_path / "n.pt", tmp_path, inputs=ROWS).runtime
    assert list(told(model)[1]) == ["output_0", "output_1"]
    below = {"x": np.full((1, 4), -1, np.float32), "y": np.ones((1, 4), np.float32)}
    with pytest.raises(BadRequest, match=r"the model refuses the inputs: .*nothing below 0"):
        asked(model, below)


def test_what_cannot_be_served_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    saved(path, Both())
    for inputs, wanted in (
        ((), "does not say the shapes of x, y; describe them with inputs"),
        ((*ROWS, ROWS[0]), r"inputs: got 3, wanted those of forward\(x, y\)"),
        ((Tensor("x", "FLOAT", (-1,)),), "x: datatype: got 'FLOAT', wanted one of BOOL"),
        ((Tensor("x", "BYTES", (-1,)),), "inputs: got BYTES"),
        (ROWS[:1], "its first run, on zeros, failed: "),
        ((ROWS[0], Tensor("y", "FP32", (-1, 3))), "its first run, on zeros, failed: "),
    ):
        with pytest.raises(ModelUnusable, match=wanted):
            opened(path, tmp_path, inputs=inputs)
    with pytest.raises(ModelUnusable, match=r"got cuda:9, but PyTorch finds [0-9]+ GPUs"):
        opened(path, tmp_path, inputs=ROWS, device=Device("cuda:9"))
    with pytest.raises(ModelUnusable, match="PyTorch takes gpu_memory_fraction instead"):
        opened(path, tmp_path, inputs=ROWS, device=Device("cpu", memory_bytes=1))
    outputs = (Tensor("a", "", ()),)
    with pytest.raises(ModelUnusable, match="outputs: got 1, but the module gives 2"):
        opened(path, tmp_path, inputs=ROWS, outputs=outputs)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ModelUnusable, match=r"m\.pt is no whole TorchScript module: "):
        opened(path, tmp_path, inputs=ROWS)
    torch.save({"weights": torch.ones(3)}, path)
    with pytest.raises(ModelUnusable, match=r"m\.pt is no whole TorchScript module: "):
        opened(path, tmp_path, inputs=ROWS)
