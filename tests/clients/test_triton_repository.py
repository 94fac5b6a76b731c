# SPDX-License-Identifier: MIT
"""tritonclient loads and unloads the models of a folder, by each of its four ways to ask."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from tests.clients.conftest import OPTIONS
from tests.processes import Running, running

MODEL = """
from smls_node import MLModel, decode_args
import numpy as np

class Half(MLModel):
    async def load(self):
        if self.name == "broken":
            raise RuntimeError("it has no weights")

    @decode_args
    async def predict(self, x: np.ndarray) -> np.ndarray:
        return x / 2
"""

WAYS = ("http", "http.aio", "grpc", "grpc.aio")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A node with two models and a broken one; a class of one's own is loaded the fastest."""
    models = tmp_path_factory.mktemp("models")
    for name in ("half", "other", "broken"):
        (models / name).mkdir()
        (models / name / "half.py").write_text(MODEL)
        told = {"name": name, "implementation": "half.Half", "platform": "half_python"}
        (models / name / "model-settings.json").write_text(json.dumps(told))
    home = str(tmp_path_factory.mktemp("cache"))
    with running("smls-node", *OPTIONS, "--models", models, XDG_CACHE_HOME=home) as node:
        yield node


class Asker:
    """A client of its own for each call, in one of the ways."""

    def __init__(self, node: Running, way: str) -> None:
        self._address = node.grpc_address if way.startswith("grpc") else node.address
        self._client = importlib.import_module(f"tritonclient.{way}").InferenceServerClient
        self._waits = way.endswith("aio")
        self.triton = tritonclient.grpc if way.startswith("grpc") else tritonclient.http

    def __call__(self, method: str, *given: Any, **more: Any) -> Any:
        async def wait() -> Any:
            async with self._client(self._address) as client:
                return await getattr(client, method)(*given, **more)

        if self._waits:
            return asyncio.run(wait())
        with self._client(self._address) as client:
            return getattr(client, method)(*given, **more)

    def index(self) -> dict[str, tuple[str, str]]:
        """The state of each model, and why it is in it."""
        found = self("get_model_repository_index")
        models = found if isinstance(found, list) else found.models
        fields = [
            each
            if isinstance(each, dict)
            else {"name": each.name, "state": each.state, "reason": each.reason}
            for each in models
        ]
        return {each["name"]: (each["state"], each["reason"]) for each in fields}

    def half(self, model: str) -> list[list[float]]:
        """What the model makes of 4."""
        given = self.triton.InferInput("x", [1, 1], "FP64")
        given.set_data_from_numpy(np.array([[4.0]]))
        answer = self("infer", model, [given])
        return list(answer.as_numpy("output-0").tolist())


@pytest.fixture(params=WAYS)
def ask(folder: Running, request: pytest.FixtureRequest) -> Asker:
    return Asker(folder, request.param)


def refused(ask: Asker, status: tuple[str, str], method: str, *given: Any, **more: Any) -> str:
    """What the error says, whose status over HTTP or gRPC is ``status``."""
    with pytest.raises(InferenceServerException) as caught:
        ask(method, *given, **more)
    http, grpc = status
    wanted = f"StatusCode.{grpc}" if ask.triton is tritonclient.grpc else http
    assert caught.value.status() == wanted, caught.value
    return str(caught.value.message())


def test_a_model_goes_and_comes_again_and_others_stay(ask: Asker) -> None:
    assert ask.index()["half"] == ("READY", "")
    ask("unload_model", "half")
    assert ask.index()["half"] == ("UNAVAILABLE", "it was unloaded on demand")
    assert not ask("is_model_ready", "half")
    with pytest.raises(InferenceServerException, match="got 'half'"):
        ask.half("half")
    assert ask.half("other") == [[2.0]]
    ask("load_model", "half")
    assert ask.index()["half"] == ("READY", "")
    assert ask.half("half") == [[2.0]]


def test_what_is_ready_is_loaded_and_stays(ask: Asker) -> None:
    ask("load_model", "half")
    assert ask.half("half") == [[2.0]]


def test_a_broken_model_says_why(ask: Asker) -> None:
    state, why = ask.index()["broken"]
    assert state == "UNAVAILABLE"
    assert "it has no weights" in why
    told = refused(ask, ("500", "FAILED_PRECONDITION"), "load_model", "broken")
    assert why in told
    assert ask.index()["broken"] == (state, why)


@pytest.mark.parametrize("method", ["load_model", "unload_model"])
def test_a_model_that_no_folder_has_is_told(ask: Asker, method: str) -> None:
    assert "model roses: no folder has it" in refused(ask, ("404", "NOT_FOUND"), method, "roses")
    assert "roses" not in ask.index()


def test_a_model_cannot_be_sent_along(ask: Asker) -> None:
    told = refused(ask, ("501", "UNIMPLEMENTED"), "load_model", "half", config='{"backend": "x"}')
    assert "loaded as its folder says" in told
