# SPDX-License-Identifier: MIT
"""TorchScript modules against PyTorch itself."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from smls.errors import BadRequest, ModelUnusable
from smls_node import services
from smls_node.settings import Device, Tensor
from smls_node.signature import DEFAULT
from tests.node.formats import asked, check_same, opened, told
from tests.processes import ROOT

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
    made = module if isinstance(module, torch.jit.ScriptModule) else torch.jit.script(module)
    made.save(str(path))
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


class Classifier(torch.nn.Module):
    """As torchvision's: channels first, logits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.features = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())
        self.classifier = torch.nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(image).mean(dim=(2, 3)))


@pytest.mark.parametrize("is_traced", [False, True])
def test_an_image_gets_the_modules_own_scores(tmp_path: Path, is_traced: bool) -> None:
    photo = Image.open(ROOT / "examples" / "digits" / "eight-large.jpg").convert("RGB")
    module = Classifier().eval()
    sides = (3, photo.height, photo.width)
    made = torch.jit.trace(module, torch.zeros(1, *sides)) if is_traced else module
    saved(tmp_path / "m.pt", made)
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\ne\n")
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    service = services.get(
        "net",
        path=tmp_path / "m.pt",
        labels=tmp_path / "labels.txt",
        inputs=(Tensor("image", "FP32", (-1, *sides)),),
        mean=tuple(255 * each for each in mean),
        std=tuple(255 * each for each in std),
        scores="softmax",
    )
    file = BytesIO()
    photo.save(file, "PNG")
    pixels = torch.tensor(np.asarray(photo, np.float32)).permute(2, 0, 1) / 255
    numbers = (torch.tensor(each)[:, None, None] for each in (mean, std))
    with torch.inference_mode():
        (wanted,) = module(((pixels - next(numbers)) / next(numbers))[None]).softmax(dim=1)
    got = np.array([score for _, score in sorted(service.run(file.getvalue()))], np.float32)
    apart = float(np.abs(got - wanted.numpy()).max())
    print(f"max abs difference {apart:.3g}")
    assert apart <= 1e-6
    service.give_back()


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
