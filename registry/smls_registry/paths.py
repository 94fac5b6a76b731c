# SPDX-License-Identifier: MIT
"""Which paths belong to the nodes, and which model a request for one of them names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from smls.wire import check_name

NODE_ROOTS = ("/classify", "/embed", "/models", "/v1/models", "/v2", "/estimators")
"""Each of these and what lies below it is a node's; so is ``POST /``."""

_BELONGS = re.compile(f"(?:{'|'.join(map(re.escape, NODE_ROOTS))})(?:/.*)?", re.DOTALL)
_NAMED = re.compile(r"/(?:v1/|v2/)?models/(?P<model>[^/:]+)")


def is_for_node(method: str, path: str) -> bool:
    """Whether a request is sent on to a node.

    >>> is_for_node("POST", "/classify"), is_for_node("GET", "/v1/models/flowers/metadata")
    (True, True)
    >>> is_for_node("GET", "/"), is_for_node("POST", "/")
    (False, True)
    """
    return (method == "POST" and path == "/") or _BELONGS.fullmatch(path) is not None


def model_of(path: str, query: Mapping[str, Sequence[str]]) -> str | None:
    """The model that a request names in its path or else in its query; ``None`` for any model.

    >>> model_of("/v1/models/flowers:predict", {}), model_of("/classify", {"model": ["flowers"]})
    ('flowers', 'flowers')

    :raises BadRecord: where what stands in the name's place is no lawful name.
    """
    named = _NAMED.match(path)
    if named is not None:
        return check_name("model", named["model"])
    values = query.get("model")
    return check_name("model", values[-1]) if values else None
