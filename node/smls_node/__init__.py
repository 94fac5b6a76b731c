# SPDX-License-Identifier: MIT
"""The node. A user's own model is written with ``MLModel`` and ``decode_args`` from here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smls_node import services as services
    from smls_node.pymodel import MLModel as MLModel
    from smls_node.pymodel import decode_args as decode_args

__all__ = ["MLModel", "decode_args", "services"]


def __getattr__(name: str) -> Any:
    if name == "services":
        return import_module("smls_node.services")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("smls_node.pymodel"), name)
