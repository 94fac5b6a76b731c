# SPDX-License-Identifier: MIT
"""What the node's page offers for each model is what the node takes."""

from __future__ import annotations

import json
import shlex
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

import pytest

from smls.tensors import TensorSpec
from tests.node.memory import HalfPlusTwo, MemoryNode, Named, form, image, model
from tests.node.test_natural import COLUMNS, MATRIX, Lengths, Weights

ODD = Weights(TensorSpec("a<b>\"'", "FP32", (-1, 1)), TensorSpec("kind", "BYTES", (-1,)))


class Page(HTMLParser):
    """The forms and inputs of a page, and the commands that it shows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.summaries = self._open = 0
        self.forms: list[dict[str, str | None]] = []
        self.inputs: list[dict[str, str | None]] = []
        self.commands: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("form", "input"):
            (self.forms if tag == "form" else self.inputs).append(dict(attrs))
        self.summaries += tag == "summary"
        if tag == "code":
            self.commands.append("")
        self._open += tag == "code"

    def handle_endtag(self, tag: str) -> None:
        self._open -= tag == "code"

    def handle_data(self, data: str) -> None:
        if self._open:
            self.commands[-1] += data


def page_of(node: MemoryNode) -> Page:
    return Page(node.request("GET", "/", Accept="text/html").body.decode())


@pytest.mark.parametrize("runtime", [Lengths(), Lengths(1), MATRIX, COLUMNS])
def test_the_command_that_is_shown_is_answered(runtime: Any) -> None:
    node = MemoryNode(model("m", runtime=runtime))
    (command,) = page_of(node).commands
    _, _, header, _, body, url = shlex.split(command)
    kind = header.removeprefix("Content-Type: ")
    reply = node.request("POST", urlsplit(url).path, body.encode(), kind)
    assert reply.status == 200
    assert json.loads(reply.body) in ([[12.0, 2.0], [18.0, 4.0]], {"prediction": [11]})


def test_images_are_sent_as_a_form_to_the_model() -> None:
    node = MemoryNode(model("dark"), model("light"))
    page = page_of(node)
    assert [each["action"] for each in page.forms] == [
        "/classify?model=dark",
        "/classify?model=light",
    ]
    content_type, body = form(image())
    reply = node.request("POST", str(page.forms[1]["action"]), body, content_type)
    assert reply.json["model"] == "light"


def test_each_feature_has_a_field_of_its_kind() -> None:
    page = page_of(MemoryNode(model("odd", runtime=ODD)))
    assert [(each["name"], each.get("type")) for each in page.inputs] == [
        ("a<b>\"'", "number"),
        ("kind", None),
    ]
    (command,) = page.commands
    assert json.loads(shlex.split(command)[4]) == {"a<b>\"'": 1.0, "kind": "a text"}


@pytest.mark.parametrize(
    ("models", "forms"),
    [
        ([model("m", "1"), model("m", "2", Lengths())], ["texts"]),
        ([model("m", "2"), model("m", "1", Lengths())], [None]),
    ],
)
def test_of_several_versions_the_latest_is_tried(models: list[Named], forms: list[Any]) -> None:
    assert [each.get("data-takes") for each in page_of(MemoryNode(*models)).forms] == forms


def test_a_model_of_plain_tensors_is_left_to_the_description() -> None:
    weights = Weights(TensorSpec("x", "FP64", (-1, 2, 2)))
    assert page_of(MemoryNode(model("m", runtime=weights))).summaries == 0
    assert page_of(MemoryNode(model("half", runtime=HalfPlusTwo()))).summaries == 1
