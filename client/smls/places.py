# SPDX-License-Identifier: MIT
"""Where ``smls-client`` asks: the options that say so, the environment, multicast DNS."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import click

from smls import tls
from smls.errors import BadRequest

if TYPE_CHECKING:
    from smls.blocking import BlockingClient

F = TypeVar("F", bound=Callable[..., Any])

COMMAND = "smls-client"

NAMES = ("expected-completion", "round-robin", "least-in-flight", "two-choices", "weighted")
"""What ``smls.routing`` calls its policies; it is not imported only to show the help."""

MDNS_SECONDS = 2.0
"""How long multicast DNS is listened to where no registry is named."""


def place_options(command: F) -> F:
    """Adds the options that say where to ask, before or after the subcommand."""
    options = (
        _option(
            "--registry",
            "registries",
            metavar="URL",
            multiple=True,
            help="A registry, as http://HOST:PORT; may be repeated. "
            "Otherwise those in SMLS_REGISTRY, otherwise what multicast DNS finds.",
        ),
        _option(
            "--node",
            "nodes",
            metavar="HOST:PORT",
            multiple=True,
            help="A node to go to without a registry; may be repeated.",
        ),
        _option(
            "--timeout",
            type=click.FloatRange(0, min_open=True),
            metavar="SECONDS",
            help="How long one call may take.  [default: 30]",
        ),
        _option(
            "--balancer",
            type=click.Choice(NAMES),
            help=f"How nodes are picked.  [default: {NAMES[0]}]",
        ),
        _option("--hedge", is_flag=True, help="Send a late image to a second node as well."),
        _option("--no-mdns", is_flag=True, help="Do not look for a registry by multicast DNS."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def open_client(options: dict[str, Any]) -> BlockingClient:
    """A client for what the options, gathered in click's ``Context.obj``, name.

    :raises click.UsageError: where they name nothing and nothing is found, or are malformed.
    """
    registries, nodes = options.get("registries", []), options.get("nodes", [])
    if not registries and not nodes:
        registries = _known_registries(options.get("no_mdns", False))

    with tls.left_out():
        from smls.blocking import BlockingClient
    from smls.options import TIMEOUT_SECONDS

    try:
        return BlockingClient(
            registries,
            nodes=nodes,
            timeout=options.get("timeout", TIMEOUT_SECONDS),
            balancer=options.get("balancer"),
            hedge=options.get("hedge", False),
        )
    except BadRequest as error:
        raise click.UsageError(error.message) from error


def _option(*names: str, **settings: Any) -> Callable[[F], F]:
    return click.option(*names, expose_value=False, callback=_keep, **settings)


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Adds an option's value to those of the whole command line."""
    kept = context.ensure_object(dict)
    if isinstance(value, tuple):
        kept.setdefault(parameter.name, []).extend(value)
    elif value:
        kept[parameter.name] = value


def _known_registries(no_mdns: bool) -> list[str]:
    named = re.split(r"[,\s]+", os.environ.get("SMLS_REGISTRY", "").strip(", \t\n"))
    if named != [""]:
        return named
    found = [] if no_mdns else _find()
    if not found:
        raise click.UsageError(
            f"no registry is named{'' if no_mdns else ', and none was found on this network'}.\n"
            f"Name one: {COMMAND} --registry http://HOST:PORT ..., or set SMLS_REGISTRY; "
            f"or name a node: {COMMAND} --node HOST:PORT ..."
        )
    return found


def _find() -> list[str]:
    try:
        return list(import_module("smls.mdns").find(MDNS_SECONDS))
    except (ImportError, OSError):
        return []
