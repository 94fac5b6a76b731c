# SPDX-License-Identifier: MIT
"""smls: hear from a registry which nodes live, and go straight to them.

::

    with smls.BlockingClient("http://registry:12480") as client:
        print(client.classify("daisy.jpg").predictions[0])

The names are imported when they are first used (PEP 562), so ``import smls`` costs nothing and
installs no reactor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smls import aio as aio
    from smls import errors as errors
    from smls import testing as testing
    from smls.balancer import Attempt as Attempt
    from smls.balancer import Balancer as Balancer
    from smls.balancer import Outcome as Outcome
    from smls.balancer import Want as Want
    from smls.blocking import BlockingClient as BlockingClient
    from smls.client import Client as Client
    from smls.ect import ExpectedCompletion as ExpectedCompletion
    from smls.errors import BadImage as BadImage
    from smls.errors import BadRecord as BadRecord
    from smls.errors import BadRequest as BadRequest
    from smls.errors import BrokenImage as BrokenImage
    from smls.errors import ClientClosed as ClientClosed
    from smls.errors import DeadlineExceeded as DeadlineExceeded
    from smls.errors import ForkedClient as ForkedClient
    from smls.errors import ModelNotFound as ModelNotFound
    from smls.errors import NodeFault as NodeFault
    from smls.errors import NodeRefused as NodeRefused
    from smls.errors import NodeUnreachable as NodeUnreachable
    from smls.errors import NoLiveNodes as NoLiveNodes
    from smls.errors import NotAnImage as NotAnImage
    from smls.errors import Overloaded as Overloaded
    from smls.errors import RegistryUnavailable as RegistryUnavailable
    from smls.errors import RequestError as RequestError
    from smls.errors import SmlsError as SmlsError
    from smls.errors import TooLarge as TooLarge
    from smls.errors import Unavailable as Unavailable
    from smls.errors import Unsupported as Unsupported
    from smls.policies import LeastInFlight as LeastInFlight
    from smls.policies import RoundRobin as RoundRobin
    from smls.policies import TwoChoices as TwoChoices
    from smls.policies import Weighted as Weighted
    from smls.results import Classification as Classification
    from smls.results import Prediction as Prediction
    from smls.results import ServedModel as ServedModel
    from smls.wire import LoadReport as LoadReport
    from smls.wire import ModelRecord as ModelRecord
    from smls.wire import NodeRecord as NodeRecord

_MODULES = {
    "balancer": ("Attempt", "Balancer", "Outcome", "Want"),
    "blocking": ("BlockingClient",),
    "client": ("Client",),
    "ect": ("ExpectedCompletion",),
    "errors": (
        "BadImage",
        "BadRecord",
        "BadRequest",
        "BrokenImage",
        "ClientClosed",
        "DeadlineExceeded",
        "ForkedClient",
        "ModelNotFound",
        "NoLiveNodes",
        "NodeFault",
        "NodeRefused",
        "NodeUnreachable",
        "NotAnImage",
        "Overloaded",
        "RegistryUnavailable",
        "RequestError",
        "SmlsError",
        "TooLarge",
        "Unavailable",
        "Unsupported",
    ),
    "policies": ("LeastInFlight", "RoundRobin", "TwoChoices", "Weighted"),
    "results": ("Classification", "Prediction", "ServedModel"),
    "wire": ("LoadReport", "ModelRecord", "NodeRecord"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

_ROOMS = ("aio", "errors", "testing")

__all__ = [*_ROOMS, *_HOMES]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _ROOMS:
        return import_module(f"smls.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'smls' has no attribute {name!r}")
    value = getattr(import_module(f"smls.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
