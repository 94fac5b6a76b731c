# SPDX-License-Identifier: MIT
"""``smls-client``: classify images from the command line, and see which nodes live.

What a command does not need is imported by none of its functions, so that it starts fast.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

import click
from click.shell_completion import get_completion_class

from smls.errors import SmlsError
from smls.places import COMMAND, open_client, place_options

if TYPE_CHECKING:
    from smls.sources import Source

INTERRUPTED = 130
"""128 and the number of SIGINT, as shells have it."""


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
    """Classify images on the nodes that a registry knows.

    \b
    Examples:
      smls-client classify daisy.jpg
      smls-client --registry http://registry:12480 classify photos/ more.png
      smls-client --node 10.0.0.5:12480 classify --json daisy.jpg
      smls-client nodes
    """


@cli.command(short_help="Classify images: files, directories, names on standard input.")
@place_options
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--model", metavar="NAME", help="The model to ask.  [default: each node's first]")
@click.option("--model-version", metavar="VERSION", help="The model's version.  [default: latest]")
@click.option("--label", metavar="NAME", help="A name of the version instead, such as canary.")
@click.option("--key", help="Images with the same key go to the same node while it is sound.")
@click.option(
    "--top", type=click.IntRange(1), default=5, show_default=True, help="Labels for an image."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 1024),
    default=16,
    show_default=True,
    help="Images that may be on their way at the same time.",
)
@click.pass_context
def classify(
    context: click.Context,
    images: tuple[str, ...],
    model: str | None,
    model_version: str | None,
    label: str | None,
    key: str | None,
    top: int,
    as_json: bool,
    as_csv: bool,
    concurrency: int,
) -> int:
    """Classify images: files, directories, or - for names on standard input, one a line.

    Results come in the order of the images. What cannot be classified is told on standard error
    and does not stop the others.

    \b
    Examples:
      smls-client classify daisy.jpg rose.jpg
      smls-client classify --model flowers --top 1 photos/
      find . -name '*.jpg' | smls-client classify --json - > found.jsonl
      smls-client classify --csv photos/ > found.csv

    Exit status: 0 all is well, 1 an image failed, 2 wrong usage.
    """
    if as_json and as_csv:
        raise click.UsageError("name one of --json and --csv")

    from smls.batch import classify_all
    from smls.program import raise_file_limit
    from smls.report import CsvReport, JsonReport, Report, TableReport, progress
    from smls.sources import STANDARD_INPUT, sources

    found: Iterable[Source] = sources(images)
    total = None
    if STANDARD_INPUT not in images:
        found = list(found)
        total = len(found)
    status = 0
    with open_client(context.obj) as client, progress(total, table=not (as_json or as_csv)) as told:
        raise_file_limit()
        submit = partial(
            client.submit, model=model, version=model_version, label=label, key=key, top=top
        )
        report: Report = JsonReport() if as_json else CsvReport() if as_csv else TableReport()
        try:
            for name, result in classify_all(found, concurrency, submit):
                if isinstance(result, Exception):
                    status = 1
                    told.complain(f"{COMMAND}: {click.format_filename(name)}: {_reason(result)}")
                else:
                    report.add(name, result)
                told.advance()
        except KeyboardInterrupt:
            status = INTERRUPTED
    report.finish()
    return status


@cli.command(short_help="Give a model named tensors, and show what it gives.")
@place_options
@click.argument("model")
@click.argument("tensors", nargs=-1, required=True, metavar="[NAME=]FILE...")
@click.option("--output", "outputs", metavar="NAME", multiple=True, help="Only this output.")
@click.option("--model-version", metavar="VERSION", help="The model's version.  [default: latest]")
@click.option("--label", metavar="NAME", help="A name of the version instead, such as canary.")
@click.option("--save", type=click.Path(dir_okay=False), help="Write the outputs as .npz instead.")
@click.pass_context
def infer(
    context: click.Context,
    model: str,
    tensors: tuple[str, ...],
    outputs: tuple[str, ...],
    model_version: str | None,
    label: str | None,
    save: str | None,
) -> int:
    """Give MODEL named tensors, and print its outputs as JSON.

    A FILE is an .npz with arrays by name, an .npy after the input's NAME=, or JSON, - for standard
    input: {"NAME": [[1.0, 2.0]]}, where numbers with a point are FP32 and others INT64, or
    {"inputs": [...]} as the Open Inference Protocol has it.

    \b
    Examples:
      smls-client infer sums x=rows.npy
      smls-client infer sums rows.npz --output y --save found.npz
      echo '{"x": [[1.0, 2.0]]}' | smls-client infer sums -
    """
    from smls.program import require_extra

    require_extra(f"{COMMAND} infer", "tensors", ["numpy"])

    from smls.arrays import as_json, read, write
    from smls.report import show_json

    given = read(tensors, sys.stdin.buffer)
    with open_client(context.obj) as client:
        found = client.infer(model, given, outputs or None, version=model_version, label=label)
    if save is None:
        show_json(as_json(found))
    else:
        write(save, found)
    return 0


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
    except BrokenPipeError:
        # The reader of a pipe has gone, as head does: what is left to flush goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    sys.exit(status)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return error.message if isinstance(error, SmlsError) else str(error)
