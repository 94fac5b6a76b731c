# SPDX-License-Identifier: MIT
"""What all three clients are made with, and whether it will do."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from typing import TypedDict

from smls.balancer import Balancer
from smls.directory import node_address
from smls.errors import BadRequest
from smls.routing import Router, policy
from smls.wire import registry_url

TIMEOUT_SECONDS = 30.0
"""How long a call may take where nothing else is said: a cold model may have to load first."""

Cache = bool | str | PathLike[str]
"""Whether the last known nodes are kept on disk, or the folder where they are."""


class Options(TypedDict, total=False):
    """What all three clients take besides registries, by name."""

    nodes: Iterable[str]
    """``host:port`` of each node, to go without a registry."""
    balancer: Balancer | str | None
    """Who gets the next request: a policy or its name; see ``smls.routing``. By expected
    completion time where it is left out."""
    hedge: bool
    """Whether a request that is late goes to a second node as well, within 2 % of all requests."""
    timeout: float
    """Seconds for a whole call that names no time of its own; 30 where it is left out."""
    cache: Cache
    """Whether the last known nodes are kept on disk for a start while no registry answers, in the
    user's cache folder, as where it is left out; or the folder where they are."""


def check_options(registries: Iterable[str | Iterable[str]], options: Options) -> list[str]:
    """The registries' URLs, one flat list; empty where the options name nodes instead.

    :raises BadRequest: where an address or an option is malformed, or neither registries nor
        nodes or both are named.
    """
    unknown = sorted(set(options) - set(Options.__annotations__))
    if unknown:
        raise TypeError(f"got {', '.join(unknown)}, wanted {', '.join(Options.__annotations__)}")
    check_timeout(options.get("timeout", TIMEOUT_SECONDS))
    Router(policy(options.get("balancer")), hedge=options.get("hedge", False))
    return check_places(registries, options.get("nodes", ()))


def check_places(registries: Iterable[str | Iterable[str]], nodes: Iterable[str]) -> list[str]:
    """The registries' URLs, one flat list; empty where ``nodes`` are named instead.

    :raises BadRequest: where one of the addresses is malformed, or neither kind or both are named.
    """
    flat = [
        registry_url(url)
        for given in registries
        for url in ([given] if isinstance(given, str) else given)
    ]
    direct = [node_address(node) for node in nodes]
    if bool(flat) == bool(direct):
        raise BadRequest(
            "name a registry, as in Client('http://HOST:PORT'), "
            "or nodes, as in Client(nodes=['HOST:PORT']), and not both"
        )
    return flat


def check_timeout(seconds: float) -> float:
    """``seconds`` where they are a time that can be waited for.

    :raises BadRequest: where they are not.
    """
    if not isinstance(seconds, int | float) or not 0 < seconds < 1e6:
        raise BadRequest(f"timeout: got {seconds!r}, wanted seconds above 0 and below a million")
    return float(seconds)
