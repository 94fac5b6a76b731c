# SPDX-License-Identifier: MIT
"""``GET /``: what the node is, as JSON for programs and as a small page for browsers."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from typing import Any

from attrs import asdict

from smls.site import LimitedRequest
from smls.web import Answer, json_answer, prefers_html
from smls_node.catalogue import Model
from smls_node.faces.trials import SCRIPT, trials
from smls_node.serving import Serving
from smls_node.tables import TableTask
from smls_node.tasks import ImageTask
from smls_node.texts import TextTask
from smls_node.versions import Standing, State


def add_routes(app: Any, serving: Serving, version: str) -> None:
    """Adds the call to the Klein application; ``version`` is the program's."""

    @app.route("/", methods=["GET"])  # type: ignore[untyped-decorator]
    def about(request: LimitedRequest) -> bytes:
        status = describe(serving, version)
        answer = (
            Answer(
                200,
                page(status, trials(serving.catalogue)).encode(),
                "text/html; charset=utf-8",
            )
            if prefers_html(request.requestHeaders)
            else json_answer(status)
        )
        return answer.write_to(request)


def describe(serving: Serving, version: str) -> dict[str, Any]:
    """The node's name, phase and models, as what ``json.dumps`` takes; ``status`` is how KServe's
    clients ask whether a server of their V1 protocol lives."""
    return {
        "status": "alive",
        "node": serving.node,
        "program": f"smls-node {version}",
        "phase": serving.phase.value,
        "models": [_model(serving, model) for model in serving.catalogue.models],
        "absent": [_absent(each) for each in serving.catalogue.absent],
    }


def page(status: dict[str, Any], forms: str) -> str:
    """The same as HTML, with forms to try it."""
    rows = "".join(
        f"<tr><td>{escape(model['name'])}</td><td>{escape(model['version'])}"
        f"{escape(_in_brackets(model['version_labels']))}</td>"
        f"<td>{escape(model['input'])}</td><td>{model['labels']}</td></tr>"
        f'<tr><td colspan="4"><small>{model["runs"]} runs at once of '
        f"{model['operator_threads'] or 'all'} operator threads: {escape(model['why'])}"
        f"; process: {escape(model['process'])}</small></td></tr>"
        for model in status["models"]
    ) + "".join(
        f"<tr><td>{escape(each['name'])}</td><td>{escape(each['version'])}</td>"
        f'<td colspan="2"><em>{escape(each["state"])}</em> {escape(_since(each))}'
        f"{escape(each['why'])}</td></tr>"
        for each in status["absent"]
    )
    return _PAGE.format(
        node=escape(status["node"]),
        program=escape(status["program"]),
        phase=escape(status["phase"]),
        rows=rows,
        forms=forms,
        script=SCRIPT,
    )


def _absent(standing: Standing) -> dict[str, Any]:
    """``since`` is the time at which its loading began, as ISO 8601 has it, while it is loaded."""
    is_loading = standing.state is State.LOADING
    since = datetime.fromtimestamp(standing.since, UTC).isoformat("T", "seconds")
    return {**asdict(standing), "since": since if is_loading else ""}


def _since(absent: dict[str, Any]) -> str:
    return f"since {absent['since']} " if absent["since"] else ""


def _model(serving: Serving, model: Model) -> dict[str, Any]:
    how = model.arrangement
    return {
        "name": model.name,
        "version": model.version,
        "state": model.record().state,
        "version_labels": list(serving.catalogue.labels_of(model)),
        "labels": len(model.labels),
        "labels_hash": model.record().labels_hash,
        "input": _takes(model),
        "operator_threads": how.operator_threads,
        "runs": how.runs,
        "workers": how.workers,
        "why": how.why,
        "process": model.runtime.process or "the node's",
        "load": asdict(model.workers.load()),
    }


def _takes(model: Model) -> str:
    task = model.task
    if isinstance(task, ImageTask):
        spec = task.pixels
        return f"images, {spec.width}x{spec.height}x{spec.channels}" if spec else "JPEG images"
    if isinstance(task, TextTask):
        return "texts"
    if isinstance(task, TableTask):
        return f"rows of {', '.join(task.features)}"
    (signature, *_) = model.runtime.signatures.values()
    return ", ".join(f"{spec.name} {spec}" for spec in signature.inputs) or "anything"


def _in_brackets(labels: list[str]) -> str:
    return f" ({', '.join(labels)})" if labels else ""


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>smls node {node}</title>
<meta name="viewport" content="width=device-width">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem;
  color: #222; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: left; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid #ddd; }}
code, small {{ color: #555; }}
code {{ overflow-wrap: anywhere; }}
details {{ border-bottom: 1px solid #ddd; padding: .4rem 0; }}
summary {{ cursor: pointer; }}
form {{ margin: .6rem 0; }}
label {{ display: block; margin: .3rem 0; }}
textarea {{ display: block; width: 100%; box-sizing: border-box; font: inherit; }}
pre {{ background: #f4f4f4; padding: .6rem; overflow: auto; max-height: 12rem;
  white-space: pre-wrap; overflow-wrap: anywhere; }}
</style>
<h1>{node}</h1>
<p>This node is <b>{phase}</b>. <small>{program}</small></p>
<table><tr><th>model</th><th>version</th><th>takes</th><th>labels</th></tr>{rows}</table>
<h2>Try it</h2>
{forms}
<p><a href="/v2/docs">All calls of this node</a>, also for models that take tensors.</p>
<script>{script}</script>
</html>
"""
