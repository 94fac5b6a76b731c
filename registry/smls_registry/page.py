# SPDX-License-Identifier: MIT
"""The registry for people: the live nodes as one HTML page without outside resources."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from smls.wire import ModelRecord, NodeRecord

CONTENT_TYPE = "text/html; charset=utf-8"

HEADERS = (
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"),
    ("X-Content-Type-Options", "nosniff"),
)
"""Nothing that a node puts in its record may run or load in a browser."""


def render(
    nodes: Sequence[NodeRecord],
    age_seconds: Callable[[NodeRecord], float],
    revision: int,
    model: str | None = None,
) -> bytes:
    """The page that shows ``nodes`` and for how long they are known."""
    what = "node" if len(nodes) == 1 else "nodes"
    serving = f" that serve <b>{escape(model)}</b>" if model else ""
    if nodes:
        shown = _TABLE.format(rows="".join(_row(node, age_seconds(node)) for node in nodes))
    else:
        shown = "" if model else _NONE
    return _PAGE.format(
        count=len(nodes),
        what=what,
        serving=serving,
        revision=revision,
        nodes=shown,
    ).encode()


def _row(node: NodeRecord, age_seconds: float) -> str:
    models = "".join(_model(model) for model in node.models) or '<span class="dim">none</span>'
    url = escape(node.url())
    return _ROW.format(
        url=url,
        address=escape(node.address),
        name=escape(node.name) or escape(node.id),
        zone=escape(node.zone) or '<span class="dim">-</span>',
        models=models,
        age=_span(age_seconds),
        state=escape(node.state),
    )


def _model(model: ModelRecord) -> str:
    state = "" if model.state == "AVAILABLE" else f" <em>{escape(model.state.lower())}</em>"
    version = f"<small>{escape(model.version)}</small>"
    return f'<span class="model">{escape(model.name)} {version}{state}</span>'


def _span(seconds: float) -> str:
    """``seconds`` for people.

    >>> _span(7.4), _span(125), _span(7300), _span(200000)
    ('7 s', '2 min', '2 h', '2 d')
    """
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>smls registry</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2.5rem auto;
  padding: 0 1rem; }}
h1 {{ font-size: 1.5rem; margin: 0; }}
p {{ margin: .25rem 0 1.5rem; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: left; vertical-align: top; padding: .5rem 1rem .5rem 0;
  border-bottom: 1px solid #8884; }}
th {{ font-weight: 600; white-space: nowrap; }}
td.time {{ white-space: nowrap; font-variant-numeric: tabular-nums; }}
.model {{ display: inline-block; border: 1px solid #8886; border-radius: .3rem;
  padding: 0 .4rem; margin: 0 .3rem .3rem 0; }}
small, .dim, footer {{ opacity: .7; }}
code {{ font-size: .9em; overflow-wrap: anywhere; }}
footer {{ margin-top: 2rem; }}
</style>
</head>
<body>
<h1>smls registry</h1>
<p>{count} {what}{serving} · revision {revision}</p>
{nodes}
<footer>For programs: <code>GET /v1/nodes</code> lists the nodes as JSON, <code>GET /next</code>
names one; both take <code>?model=NAME</code>.</footer>
</body>
</html>
"""

_TABLE = """<div class="wide"><table>
<thead><tr><th>Node</th><th>Address</th><th>Zone</th><th>Models</th><th>Known for</th>
<th>State</th></tr></thead>
<tbody>
{rows}</tbody>
</table></div>"""

_ROW = """<tr><td>{name}</td><td><a href="{url}">{address}</a></td><td>{zone}</td>
<td>{models}</td><td class="time">{age}</td><td>{state}</td></tr>
"""

_NONE = """<p>No node has announced itself. Start one: <code>smls-node --registry
URL-of-this-page</code></p>"""
