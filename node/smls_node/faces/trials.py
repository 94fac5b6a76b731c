# SPDX-License-Identifier: MIT
"""How each model is tried from a browser, and from a shell. Pure: pieces of the node's page."""

from __future__ import annotations

import json
import shlex
from html import escape
from urllib.parse import quote

from smls_node.catalogue import Catalogue, Model
from smls_node.tables import TableTask
from smls_node.tasks import ImageTask
from smls_node.texts import TextTask

TEXTS = ("Hello world!", "How are you today?")

_HOST = "http://THIS-NODE"


def trials(catalogue: Catalogue) -> str:
    """A form for each model that takes images, texts or features, the first one open; of several
    versions it asks the latest."""
    names = dict.fromkeys(model.name for model in catalogue.models)
    forms = [(name, form) for name in names if (form := _form(catalogue.find(name)))]
    return "".join(
        f"<details{'' if place else ' open'}><summary>{escape(name)}</summary>{form}</details>"
        for place, (name, form) in enumerate(forms)
    )


def _form(model: Model) -> str:
    task, name = model.task, quote(model.name)
    if isinstance(task, ImageTask):
        url = f"/classify?model={name}"
        return (
            f'<form method="post" action="{url}" enctype="multipart/form-data">'
            '<input type="file" name="data" accept="image/*" multiple required> '
            "<button>Classify</button></form>"
            + _shell(f"-F data=@image.jpg {shlex.quote(_HOST + url)}")
        )
    url = f"/models/{name}"
    if isinstance(task, TextTask):
        lines = "\n".join(TEXTS)
        return (
            f'<form data-url="{url}" data-takes="texts">'
            f'<label>Texts, one a line<textarea rows="4" required>{lines}</textarea></label>'
            f"<button>Embed</button></form><pre hidden></pre>{_json_shell(url, list(TEXTS))}"
        )
    if isinstance(task, TableTask):
        texts = {spec.name for spec in task.columns if spec.datatype == "BYTES"}
        fields = "".join(_field(each, each in texts) for each in task.features)
        row = {each: "a text" if each in texts else 1.0 for each in task.features}
        return (
            f'<form data-url="{url}" data-takes="row">{fields}'
            f"<button>Predict</button></form><pre hidden></pre>{_json_shell(url, row)}"
        )
    return ""


def _field(name: str, is_text: bool) -> str:
    kind = "" if is_text else ' type="number" step="any" required'
    return f'<label>{escape(name)} <input name="{escape(name)}"{kind}></label>'


def _json_shell(url: str, value: object) -> str:
    body = shlex.quote(json.dumps(value, ensure_ascii=False))
    return _shell(f"-H 'Content-Type: application/json' -d {body} {shlex.quote(_HOST + url)}")


def _shell(arguments: str) -> str:
    return f"<p><code>curl {escape(arguments, quote=False)}</code></p>"


SCRIPT = """
for (const form of document.querySelectorAll("form[data-url]")) form.onsubmit = async event => {
  event.preventDefault();
  const answer = form.nextElementSibling;
  answer.hidden = false;
  const row = () => Object.fromEntries([...form.querySelectorAll("input")].map(
    ({name, type, value}) => [name, type === "number" ? Number(value) : value]));
  const texts = () => form.querySelector("textarea").value.split("\\n").filter(each => each);
  try {
    const reply = await fetch(form.dataset.url, {
      method: "POST",
      headers: {"Content-Type": "application/json"},
      body: JSON.stringify(form.dataset.takes === "row" ? row() : texts()),
    });
    answer.textContent = await reply.text();
  } catch (error) {
    answer.textContent = error;
  }
};
"""
"""Sends what such a form has as JSON, and shows the answer below it."""
