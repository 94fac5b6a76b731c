# SPDX-License-Identifier: MIT
"""``python -m tests.fleet``: runs the scenarios, prints the table, draws the plot.

Names of scenarios run these alone. The plot needs matplotlib.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from attrs import evolve

from tests.fleet.fleet import CENTRAL, Fleet, Plan
from tests.fleet.scenarios import (
    SCENARIOS,
    SLOW_BEGINS,
    SLOW_ENDS,
    UNEVEN,
    WARM,
    Finding,
    percentile,
    slow_plan,
    window,
)

PLOT = Path(__file__).parents[2] / "docs" / "fleet.png"
POLICIES = (CENTRAL, "expected-completion", "least-in-flight", "weighted", "round-robin")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fleet", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--plot", type=Path, help="where the plot goes, such as docs/fleet.png")
    options = parser.parse_args()
    unknown = sorted(set(options.scenarios) - set(SCENARIOS))
    if unknown:
        parser.error(f"got {', '.join(unknown)}, wanted some of {', '.join(SCENARIOS)}")
    begun = time.perf_counter()
    print("| scenario | clients | figure | got | wanted | |\n| --- | --- | --- | --- | --- | --- |")
    reasons = []
    for name in options.scenarios or SCENARIOS:
        for finding in SCENARIOS[name]():
            print(_row(finding), flush=True)
            if not finding.met:
                reasons.append(f"- {finding.scenario}, {finding.clients}: {finding.missed}")
    print(f"\n{time.perf_counter() - begun:.0f} s", *reasons, sep="\n")
    if options.plot:
        draw(options.plot)
        print(options.plot)
    return 0


def _row(finding: Finding) -> str:
    sign = "≥" if finding.at_least else "≤"
    cells = (
        finding.scenario,
        f"{finding.clients:,}",
        finding.figure,
        f"{finding.got:.4g}",
        f"{sign} {finding.wanted:g}",
        "met" if finding.met else "missed",
    )
    return f"| {' | '.join(cells)} |"


def draw(path: Path) -> None:
    """The slow node's ten seconds under three policies, and p99 under all of them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.3, 1))
    for policy in ("least-in-flight", "expected-completion", CENTRAL):
        plan = slow_plan(1 if policy == CENTRAL else 10, policy=policy)
        calls = Fleet.run(plan).calls
        edges = [4 + 0.25 * step for step in range(77)]
        points = [percentile(window_, 0.99) for e in edges if (window_ := _at(calls, e))]
        left.plot(edges[: len(points)], points, label=policy, linewidth=1.3)
    left.axvspan(SLOW_BEGINS, SLOW_ENDS, color="0.92", zorder=0)
    left.axhline(500, color="0.6", linewidth=0.8, linestyle=":")
    left.set(
        title="one of three fast nodes 8 times slower (grey)",
        xlabel="s",
        ylabel="p99 of a quarter second, ms",
        yscale="log",
        ylim=(80, 9000),
    )
    left.legend(frameon=False)
    shown = [policy for policy in POLICIES if policy != "round-robin"]
    for offset, clients in enumerate((1, 10, 100)):
        plan = Plan(UNEVEN, load=0.8, clients=clients, seconds=13)
        heights = [
            percentile(window(Fleet.run(evolve(plan, policy=p)), WARM, 13), 0.99) for p in shown
        ]
        places = [index + 0.25 * (offset - 1) for index in range(len(shown))]
        right.bar(places, heights, width=0.23, label=f"{clients} client{'s' * (clients > 1)}")
    right.set_xticks(range(len(shown)), [p.replace("-", "\n") for p in shown])
    right.set(title="22:1 fleet, load 0.8", ylabel="p99, ms")
    right.legend(frameon=False)
    figure.savefig(path, dpi=110)


def _at(calls: list, moment: float) -> list:  # type: ignore[type-arg]
    return [call for call in calls if moment <= call.begun_at < moment + 0.25]


if __name__ == "__main__":
    sys.exit(main())
