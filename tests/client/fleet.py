# SPDX-License-Identifier: MIT
"""What the client's tests ask of the fakes in ``smls.testing``, and misbehaviour of their own."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from smls.errors import NotAnImage
from smls.testing import FakeModel, FakeRequest, respond


def fake_model(name: str) -> FakeModel:
    """Takes images that begin with ``image``, texts and rows; what it says of them tells
    nothing."""
    return FakeModel(
        name,
        classify=_scores,
        embed=lambda text: [0.5, len(text)],
        predict=lambda row: sum(row.values()),
    )


def _scores(image: bytes) -> dict[str, float]:
    if not image.startswith(b"image"):
        raise NotAnImage("this is no image")
    return {"daisy": 0.5, "rose": 0.25, "tulip": 0.125}


FLOWERS = fake_model("flowers")


def half(request: FakeRequest) -> None:
    """Begins an answer and never ends it."""
    request.setHeader("Content-Length", "100")
    request.write(b'{"model": ')


def stranger(request: FakeRequest) -> None:
    """Answers as another kind of server does."""
    respond(request, 200, b"<html>It works!</html>")


class ClockedReactor:
    """A reactor's sockets with a clock that a test moves by hand."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.clock = Clock()
        self.callLater = self.clock.callLater
        self.seconds = self.clock.seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)
