# SPDX-License-Identifier: MIT
"""The commands of ``smls-client`` that ask models: classify, embed, predict, infer.

What a command does not need is imported by none of its functions, so that it starts fast.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from smls.errors import BadRequest, SmlsError
from smls.places import COMMAND, open_client, place_options

if TYPE_CHECKING:
    from concurrent.futures import Future

    from smls.results import Classification
    from smls.sources import Source

F = TypeVar("F", bound=Callable[..., Any])

INTERRUPTED = 130
"""128 and the number of SIGINT, as shells have it."""


def _model_options(command: F) -> F:
    """Adds the options that say which model is asked, and where: arguments of the client's."""
    options = (
        click.option(
            "--model", metavar="NAME", help="The model to ask.  [default: each node's first]"
        ),
        click.option(
            "--model-version",
            "version",
            metavar="VERSION",
            help="The model's version.  [default: latest]",
        ),
        click.option(
            "--label", metavar="NAME", help="A name of the version instead, such as canary."
        ),
        click.option(
            "--key", help="Calls with the same key go to the same node while it is sound."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _concurrency(what: str, default: int) -> Callable[[F], F]:
    return click.option(
        "--concurrency",
        type=click.IntRange(1, 1024),
        default=default,
        show_default=True,
        help=f"{what} that may be on their way at the same time.",
    )


def _batch_size(what: str) -> Callable[[F], F]:
    return click.option(
        "--batch-size",
        type=click.IntRange(1),
        default=32,
        show_default=True,
        help=f"{what} in one request at most.",
    )


@click.command(short_help="Classify images: files, directories, names on standard input.")
@place_options
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@_model_options
@click.option(
    "--top", type=click.IntRange(1), default=5, show_default=True, help="Labels for an image."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
@_concurrency("Images", 16)
@click.pass_context
def classify(
    context: click.Context,
    /,
    images: tuple[str, ...],
    top: int,
    as_json: bool,
    as_csv: bool,
    concurrency: int,
    **asked: Any,
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

    from smls.batch import in_order
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

        def submit(source: Source) -> Future[Classification]:
            if source.fault:
                raise BadRequest(source.fault)
            return client.submit(source.name, top=top, **asked)

        report: Report = JsonReport() if as_json else CsvReport() if as_csv else TableReport()
        try:
            for source, result in in_order(found, concurrency, submit):
                if isinstance(result, Exception):
                    status = 1
                    name = click.format_filename(source.name)
                    told.complain(f"{COMMAND}: {name}: {_reason(result)}")
                else:
                    report.add(source.name, result)
                told.advance()
        except KeyboardInterrupt:
            status = INTERRUPTED
    report.finish()
    return status


@click.command(short_help="Turn texts into vectors: arguments, lines of standard input.")
@place_options
@click.argument("texts", nargs=-1, required=True, metavar="TEXT...")
@_model_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@_batch_size("Texts")
@_concurrency("Requests", 4)
@click.pass_context
def embed(context: click.Context, /, texts: tuple[str, ...], as_json: bool, **settings: Any) -> int:
    """Turn texts into vectors: a line of numbers for each TEXT, or - for standard input, where
    each line is a text.

    It ends at the first request that fails, after the vectors of all texts before it.

    \b
    Examples:
      smls-client embed 'Hello world!' 'How are you today?'
      smls-client embed --model encoder --json - < lines.txt > vectors.jsonl
    """
    from smls.report import show_vector
    from smls.sources import texts as named

    return _show_each(context, "submit_embed", named(texts), show_vector, as_json, **settings)


@click.command(short_help="Predict from rows of features: JSON, a file of it, standard input.")
@place_options
@click.argument("rows", metavar="JSON|FILE|-")
@_model_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@_batch_size("Rows")
@_concurrency("Requests", 4)
@click.pass_context
def predict(context: click.Context, /, rows: str, as_json: bool, **settings: Any) -> int:
    """Predict from rows of features: a line for each row.

    The rows are JSON, a file of it, or - for standard input: an object with the features by
    their names, a list of such, or an object a line. It ends at the first request that fails.

    \b
    Examples:
      smls-client predict '{"sl": 2.0, "sw": 1.0, "pl": 2.0, "pw": 3.0}'
      smls-client predict --model iris --json flowers.jsonl
    """
    from smls.report import show_prediction
    from smls.sources import rows as named

    return _show_each(context, "submit_predict", named(rows), show_prediction, as_json, **settings)


@click.command(short_help="Give a model named tensors, and show what it gives.")
@place_options
@click.argument("model")
@click.argument("tensors", nargs=-1, required=True, metavar="[NAME=]FILE...")
@click.option("--output", "outputs", metavar="NAME", multiple=True, help="Only this output.")
@click.option("--model-version", metavar="VERSION", help="The model's version.  [default: latest]")
@click.option("--label", metavar="NAME", help="A name of the version instead, such as canary.")
@click.option(
    "--save",
    metavar="FILE",
    help="Write the outputs as .npz instead, or the only one as .npy; - for standard output.",
)
@click.pass_context
def infer(
    context: click.Context,
    /,
    model: str,
    tensors: tuple[str, ...],
    outputs: tuple[str, ...],
    model_version: str | None,
    label: str | None,
    save: str | None,
) -> int:
    """Give MODEL named tensors, and print its outputs as JSON.

    A FILE, or - for standard input, is an .npz with arrays by name, an .npy after the input's
    NAME=, or JSON: {"NAME": [[1.0, 2.0]]}, where numbers with a point are FP32 and others INT64,
    or {"inputs": [...]} as the Open Inference Protocol has it.

    \b
    Examples:
      smls-client infer sums x=rows.npy
      smls-client infer sums rows.npz --output y --save found.npz
      echo '{"x": [[1.0, 2.0]]}' | smls-client infer sums -
      make-rows | smls-client infer sums x=- --save - > found.npz
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
        write(save, found, sys.stdout.buffer)
    return 0


def _show_each(
    context: click.Context,
    call: str,
    items: Iterable[Any],
    show: Callable[..., None],
    as_json: bool,
    batch_size: int,
    concurrency: int,
    **asked: Any,
) -> int:
    """Shows each item with what the client's ``call`` brings for it, in their order."""
    from smls.batch import in_order, pieces

    with open_client(context.obj) as client:
        submit = partial(getattr(client, call), **asked)
        for piece, found in in_order(pieces(items, batch_size), concurrency, submit):
            if isinstance(found, Exception):
                raise found
            for item, each in zip(piece, found, strict=True):
                show(item, each, as_json=as_json)
    return 0


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return error.message if isinstance(error, SmlsError) else str(error)
