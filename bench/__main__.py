# SPDX-License-Identifier: MIT
"""``python -m bench``: measures, prints the tables, draws the plot, writes the figures."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from bench import models, report
from bench.load import NoWrk
from bench.places import PLOT, RESULTS
from bench.run import Plan, run

QUICK_MODELS = ("mobilenet_v2", "digits")
QUICK_SERVERS = ("smls", "Flask", "MLServer")
"""The peers that were best at these two models."""


def main() -> int:
    """Runs what the command line says; 2 where wrk is missing."""
    options = _options()
    quick = options.quick
    plan = Plan(
        models=options.models or (QUICK_MODELS if quick else models.NAMES),
        servers=options.servers or (QUICK_SERVERS if quick else ()),
        rounds=options.rounds or (1 if quick else 3),
        seconds=options.seconds or (3 if quick else 4),
        minutes=options.minutes or (5 if quick else 28),
        trial=not quick or options.trial,
        retry=options.trial,
    )
    try:
        results = run(plan)
    except NoWrk as error:
        print(error, file=sys.stderr)
        return 2
    RESULTS.mkdir(exist_ok=True)
    stem = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    file = options.json or RESULTS / f"{stem}.json"
    file.write_text(json.dumps(results, indent=1))
    # What is written and what is read back differ in the types of keys: use what others will read.
    text = report.markdown(report.from_json(file.read_text()))
    print("\n" + text)
    (RESULTS / f"{stem}.md").write_text(text)
    plot = options.plot or (RESULTS / f"{stem}.png" if quick else PLOT)
    report.plot(report.from_json(file.read_text()), plot)
    print(f"figures: {file}\nplot: {plot}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two models, two peers, one round")
    parser.add_argument(
        "--models", type=_names, help=f"some of {','.join(models.NAMES)}, comma between"
    )
    parser.add_argument(
        "--servers", type=_names, help="names or their beginnings, such as smls,Flask"
    )
    parser.add_argument("--rounds", type=int, help="3, or 1 with --quick")
    parser.add_argument(
        "--seconds", type=float, help="of each load, more for a large network: 4, or 3 with --quick"
    )
    parser.add_argument("--minutes", type=float, help="begin no round that would end later: 28")
    parser.add_argument(
        "--trial", action="store_true", help="try each peer's variants again; do not remember"
    )
    parser.add_argument("--json", type=Path, help="where the figures go: bench/results/TIME.json")
    parser.add_argument("--plot", type=Path, help="where the plot goes: docs/performance.png")
    options = parser.parse_args()
    unknown = set(options.models or ()) - set(models.NAMES)
    if unknown:
        parser.error(
            f"--models: got {', '.join(sorted(unknown))}, wanted {', '.join(models.NAMES)}"
        )
    return options


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


if __name__ == "__main__":
    sys.exit(main())
