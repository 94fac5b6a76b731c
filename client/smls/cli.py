# SPDX-License-Identifier: MIT
"""``smls-client``: ask the nodes' models from the command line, and see which nodes live.

What a command does not need is imported by none of its functions, so that it starts fast.
"""

from __future__ import annotations

import os
import sys

import click
from click.shell_completion import get_completion_class

from smls.commands import INTERRUPTED, classify, embed, infer, predict
from smls.errors import SmlsError
from smls.places import COMMAND, open_client, place_options


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog='Shell completion: eval "$(smls-client completion bash)"',
)
@place_options
@click.version_option(
    package_name="simple-ml-serving",
    prog_name="simple-ml-serving",
    message="%(prog)s %(version)s",
)
def cli() -> None:
    """Ask the models on the nodes that a registry knows.

    \b
    Examples:
      smls-client classify daisy.jpg
      smls-client embed 'Hello world!'
      smls-client predict '{"sl": 2.0, "sw": 1.0}'
      smls-client --registry http://registry:12480 classify photos/ more.png
      smls-client --node 10.0.0.5:12480 classify --json daisy.jpg
      smls-client nodes
    """


for command in (classify, embed, predict, infer):
    cli.add_command(command)


@cli.command()
@place_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.pass_context
def models(context: click.Context, as_json: bool) -> int:
    """List the models that the live nodes have.

    \b
    Examples:
      smls-client models
      smls-client models --json
    """
    with open_client(context.obj) as client:
        found = client.models()

    from smls.report import show_json, show_table

    if as_json:
        from attrs import asdict

        for model in found:
            show_json(asdict(model))
    elif found:
        rows = [
            [each.name, each.version, each.state, " ".join(each.labels), " ".join(each.nodes)]
            for each in found
        ]
        show_table(["MODEL", "VERSION", "STATE", "LABELS", "NODES"], rows)
    else:
        click.echo("no models", err=True)
    return 0


@cli.command()
@place_options
@click.option("--model", metavar="NAME", help="Only nodes that serve this model.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.pass_context
def nodes(context: click.Context, model: str | None, as_json: bool) -> int:
    """List the live nodes.

    \b
    Examples:
      smls-client nodes
      smls-client nodes --model flowers --json
    """
    with open_client(context.obj) as client:
        found = client.nodes(model)

    from smls.report import show_json, show_table
    from smls.wire import node_to_json

    if as_json:
        for node in found:
            show_json(node_to_json(node))
    elif found:
        show_table(
            ["NAME", "ADDRESS", "MODELS"],
            [
                [
                    node.name or node.id,
                    node.address,
                    " ".join(f"{each.name}:{each.version}" for each in node.models),
                ]
                for node in found
            ],
        )
    else:
        click.echo("no live nodes", err=True)
    return 0


@cli.command(short_help="Print the script for completion in a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print the script that completes smls-client's commands in a shell.

    \b
    Examples:
      eval "$(smls-client completion bash)"      in ~/.bashrc
      eval "$(smls-client completion zsh)"       in ~/.zshrc
      smls-client completion fish > ~/.config/fish/completions/smls-client.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(cli, {}, COMMAND, "_SMLS_CLIENT_COMPLETE")
    click.echo(script.source_template % script.source_vars())
    return 0


def main(arguments: list[str] | None = None) -> None:
    """Runs ``smls-client`` and exits: 0, 1 for a failure, 2 for wrong usage, 130 on interrupt."""
    try:
        status = cli.main(arguments, prog_name=COMMAND, standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        status = INTERRUPTED
    except SmlsError as error:
        click.echo(f"{COMMAND}: {error.message}", err=True)
        status = 1
    except OSError as error:
        # The reader of a pipe has gone, as head does, or the disk is full: what is left to flush
        # goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            told = f"{error.filename or 'standard output'}: {error.strerror or error}"
            click.echo(f"{COMMAND}: {told}", err=True)
        status = 1
    sys.exit(status)
