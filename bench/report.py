# SPDX-License-Identifier: MIT
"""From the measurements to tables, targets and a plot. Every figure is a median over the rounds.

A ratio is taken within each round first, then its median: what ran side by side is compared.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

OURS, FAST = "smls", "smls accelerated"

Result = dict[str, Any]
"""One model's measurements, as ``run._measure`` returns them."""


def from_json(text: str) -> dict[str, Any]:
    """The results as ``run`` returned them: JSON turns the numbers of connections into strings."""
    results: dict[str, Any] = json.loads(text)
    for result in results["models"].values():
        for each in result["rounds"]:
            each["loads"] = {
                name: {int(connections): load for connections, load in loads.items()}
                for name, loads in each["loads"].items()
            }
    return results


def markdown(results: dict[str, Any]) -> str:
    """The whole report."""
    machine = results["machine"]
    lines = [
        "# Benchmark",
        "",
        f"{machine['date']} UTC, {machine['cores']} cores of {machine['processor']} "
        f"({', '.join(machine['vectors'])}), {machine['memory_gb']} GB, "
        f"Python {machine['python']}, TensorFlow {machine['tensorflow']}. "
        f"Medians of {results['plan']['rounds']} rounds of {results['plan']['seconds']:g} s; "
        f"{results['seconds'] / 60:.0f} minutes in all.",
        "",
        *_quietness(results),
    ]
    for result in results["models"].values():
        lines += _model(result)
    lines += _targets(results["models"])
    return "\n".join(lines) + "\n"


def _quietness(results: dict[str, Any]) -> list[str]:
    rounds = [each for result in results["models"].values() for each in result["rounds"]]
    slow = [value for each in rounds for value in each["slowness_ms"]]
    stolen = sum(each["stolen_seconds"] for each in rounds)
    loads = [run for each in rounds for runs in each["loads"].values() for run in runs.values()]
    said = [f"Busy with something else at the start: {results['busy_at_start']:.0%} of the cores."]
    if slow:
        said.append(
            f"The same fixed work took {min(slow):.0f} to {max(slow):.0f} ms, "
            f"{_middle(slow):.0f} in the middle; "
            f"the host took {stolen:.0f} s of processor time away."
        )
    if loads:
        others = [run["other_cores"] for run in loads]
        said.append(
            f"Under load, wrk took {_middle(run['client_cores'] for run in loads):.2f} cores, and "
            f"what does not belong to the benchmark {_middle(others):.2f} ({max(others):.2f} at "
            "most)."
        )
        if max(slow) > 1.5 * min(slow):
            said.append("**The machine's speed changed during the run: trust ratios alone.**")
    return [" ".join(said), ""]


def _model(result: Result) -> list[str]:
    busiest = max(result["concurrencies"])
    limit = result["limit"]
    best = limit["best"]
    lines = [f"## {result['title']}", ""]
    lines += [
        "| in process | images/s |",
        "| --- | --- |",
        f"| decode and infer, {limit['decoder']} | {_limit(result, 'both'):,.0f} |",
        f"| the same with every pixel decoded | {_limit(result, 'both_full_decode'):,.0f} |",
        f"| decode and infer, the graph as it is, {limit['plain']} | "
        f"{_limit(result, 'bare'):,.0f} |",
        f"| infer only | {_limit(result, 'infer'):,.0f} |",
    ]
    for name in limit["rounds"][0]["decode"]:
        rate = _middle(each["decode"][name]["per_second"] for each in limit["rounds"])
        lines.append(f"| decode only, {name} | {rate:,.0f} |")
    threads = best["intra_op"] or "all"
    lines += [
        "",
        f"Best arrangement: {best['callers']} callers, batch {best['batch']}, "
        f"{threads} operator threads a run. "
        f"One caller: {_median(limit['rounds'], lambda each: each['one_caller_p50']):.2f} ms. "
        f"The floor, cores over the time of one core, is {_floor(result):,.0f}/s. "
        f"With the graph as it is, from start to the first answer {limit['start_seconds']:.1f} s, "
        f"{limit['memory_mb']:,.0f} MB.",
        "",
    ]
    columns = "".join(
        f" {connections} connection{'s' if connections > 1 else ''} |"
        for connections in result["concurrencies"]
    )
    lines += [
        f"| requests/s (p50 / p99 ms) |{columns} of the limit | errors | MB | start s | how |",
        "| --- |" + " --- |" * (len(result["concurrencies"]) + 5),
    ]
    for name in sorted(result["servers"], key=lambda each: -_rate(result, each, busiest)):
        lines.append(_server(result, name, busiest))
    trials = _trials(result)
    return [*lines, "", *trials]


def _server(result: Result, name: str, busiest: int) -> str:
    record = result["servers"][name]
    if not _measured(result, name):
        reason = " ".join(record.get("error", "not measured").split())[-160:]
        return f"| {name} | {reason.replace('|', '/')} |"
    cells = ""
    for connections in result["concurrencies"]:
        p50, p99 = (_load(result, name, connections, each) for each in ("p50", "p99"))
        rate = _load(result, name, connections, "per_second")
        cells += f" {rate:,.0f} ({_ms(p50)} / {_ms(p99)}) |"
    errors = sum(run["errors"] for each in result["rounds"] for run in each["loads"][name].values())
    wrong = ", " + record["error"] if "error" in record else ""
    return (
        f"| {name} |{cells} {_of_limit(result, name):.2f} | {errors}{wrong} | "
        f"{record['memory_mb']:,.0f} | {_start(record):.1f} | {record['variant']} |"
    )


def _trials(result: Result) -> list[str]:
    said = [
        f"{name}: "
        + ", ".join(f"{variant} {rate:,.0f}/s" for variant, rate in record["trial"].items())
        for name, record in result["servers"].items()
        if "trial" in record
    ]
    return ["Tried: " + "; ".join(said) + ".", ""] if said else []


def _targets(results: dict[str, Result]) -> list[str]:
    lines = ["## Targets", "", "| | got | target | |", "| --- | --- | --- | --- |"]

    def row(what: str, got: float | None, target: str, met: bool | None, unit: str = "") -> None:
        figure = "not measured" if got is None else f"{got:.2f}{unit}"
        verdict = "" if met is None or got is None else ("met" if met else "**missed**")
        lines.append(f"| {what} | {figure} | {target} | {verdict} |")

    def at_least(what: str, got: float | None, target: float) -> None:
        row(what, got, f"≥ {target}", got is not None and got >= target)

    def at_most(what: str, got: float | None, target: float, unit: str) -> None:
        row(what, got, f"≤ {target}{unit}", got is not None and got <= target, unit)

    mobile, inception, digits = (
        results.get(name) for name in ("mobilenet_v2", "inception_v3", "digits")
    )
    if mobile:
        at_least("MobileNetV2 at 32: node / in-process limit", _of_limit(mobile, OURS), 0.95)
        row("the same / the plain loop", _of_plain(mobile), "reported", None)
        at_least("the same / best peer", _over_peers(mobile, OURS), 1.35)
        floor = _ratio(mobile, OURS, lambda each, limit: _floor_of(limit, mobile))
        row("the same / the floor", floor, "reported", None)
        at_least("the same accelerated / best peer", _over_peers(mobile, FAST), 2.8)
    if inception:
        at_least("InceptionV3 at 32: node / in-process limit", _of_limit(inception, OURS), 0.95)
        row("the same / the plain loop", _of_plain(inception), "reported", None)
        at_least("the same accelerated / best peer", _over_peers(inception, FAST), 1.9)
    if digits:
        at_least("digits at 64: node / best peer", _over_peers(digits, OURS), 1.9)
    for result in results.values():
        title = result["title"]
        extra = _one_connection(result)
        at_most(f"{title}, one connection: p50 over decode and infer", extra, 0.6, " ms")
        at_most(f"{title} at {max(result['concurrencies'])}: p99 / p50", _tail(result), 1.8, "")
        at_most(f"{title}: start over the bare loop's", _start_over(result), 0.7, " s")
        fast = result["servers"].get(FAST)
        start = _start(fast) if fast and fast.get("starts") else None
        at_most(f"{title}: start accelerated", start, 1.0, " s")
        at_most(f"{title}: memory over the bare loop's", _memory_over(result), 60, " MB")
    return [*lines, ""]


def _one_connection(result: Result) -> float | None:
    if not _measured(result, OURS):
        return None
    return _middle(
        each["loads"][OURS][1]["p50"] - limit["one_caller_p50"]
        for each, limit in zip(result["rounds"], result["limit"]["rounds"], strict=True)
    )


def _tail(result: Result) -> float | None:
    if not _measured(result, OURS):
        return None
    runs = [each["loads"][OURS][max(result["concurrencies"])] for each in result["rounds"]]
    return _middle(run["p99"] / run["p50"] for run in runs)


def _start_over(result: Result) -> float | None:
    if not _measured(result, OURS):
        return None
    return _start(result["servers"][OURS]) - float(result["limit"]["start_seconds"])


def _memory_over(result: Result) -> float | None:
    if not _measured(result, OURS):
        return None
    return float(result["servers"][OURS]["memory_mb"] - result["limit"]["memory_mb"])


def _start(record: Result) -> float:
    """A node's later starts: its first one may have had its arrangement to find."""
    return _middle(record["starts"][1:] or record["starts"])


def _of_limit(result: Result, name: str) -> float | None:
    return _ratio(result, name, lambda each, limit: limit["both"]["per_second"])


def _of_plain(result: Result) -> float | None:
    return _ratio(result, OURS, lambda each, limit: limit["bare"]["per_second"])


def _over_peers(result: Result, name: str) -> float | None:
    busiest = max(result["concurrencies"])
    peers = [each for each in result["servers"] if not each.startswith(OURS)]
    peers = [each for each in peers if _measured(result, each)]
    if not peers:
        return None
    best = max(peers, key=lambda each: _rate(result, each, busiest))
    return _ratio(result, name, lambda each, limit: each["loads"][best][busiest]["per_second"])


def _ratio(result: Result, name: str, under: Callable[[Result, Result], float]) -> float | None:
    if not _measured(result, name):
        return None
    busiest = max(result["concurrencies"])
    return _middle(
        each["loads"][name][busiest]["per_second"] / under(each, limit)
        for each, limit in zip(result["rounds"], result["limit"]["rounds"], strict=True)
    )


def _floor_of(limit: Result, result: Result) -> float:
    milliseconds = limit["one_core_infer_ms"] + limit["one_core_decode_ms"]
    return float(result["limit"]["cores"] * 1e3 / milliseconds)


def _floor(result: Result) -> float:
    return _middle(_floor_of(each, result) for each in result["limit"]["rounds"])


def _measured(result: Result, name: str) -> bool:
    return bool(result["rounds"]) and name in result["rounds"][0]["loads"]


def _rate(result: Result, name: str, connections: int) -> float:
    return _load(result, name, connections, "per_second") if _measured(result, name) else -1.0


def _load(result: Result, name: str, connections: int, figure: str) -> float:
    return _median(result["rounds"], lambda each: each["loads"][name][connections][figure])


def _limit(result: Result, what: str) -> float:
    return _median(result["limit"]["rounds"], lambda each: each[what]["per_second"])


def _median(rounds: list[Result], of: Callable[[Result], float]) -> float:
    return _middle(of(each) for each in rounds)


def _middle(values: Iterable[float]) -> float:
    return float(statistics.median(values))


def _ms(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def plot(results: dict[str, Any], file: Path) -> None:
    """Bars: requests a second of each server at the highest concurrency, and p50 to p99."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    networks = list(results["models"].values())
    figure, axes = pyplot.subplots(
        2, len(networks), figsize=(4.6 * len(networks), 6.2), squeeze=False, layout="constrained"
    )
    for column, result in enumerate(networks):
        busiest = max(result["concurrencies"])
        names = [name for name in result["servers"] if _measured(result, name)]
        names.sort(key=lambda name: _rate(result, name, busiest))
        colours = ["#1f6f8b" if name.startswith(OURS) else "#b9bec4" for name in names]
        rates = [_rate(result, name, busiest) for name in names]
        top = axes[0][column]
        bars = top.barh(names, rates, color=colours)
        top.bar_label(bars, [f"{rate:,.0f}" for rate in rates], padding=3, fontsize=8)
        limit = _limit(result, "both")
        top.axvline(limit, color="#c8553d", linestyle="--", linewidth=1)
        top.set_xlim(0, max(limit, *rates, 0) * 1.18)
        top.xaxis.set_major_locator(ticker.MaxNLocator(5))
        top.set_title(f"{result['title']}, {busiest} connections", fontsize=10)
        top.set_xlabel(f"requests/s (dashed: in process, {limit:,.0f})", fontsize=8)
        bottom = axes[1][column]
        for row, name in enumerate(names):
            p50, p99 = (_load(result, name, busiest, each) for each in ("p50", "p99"))
            bottom.plot([p50, p99], [row, row], color=colours[row], linewidth=5)
            bottom.plot(p50, row, "o", color="black", markersize=4)
        bottom.set_yticks(range(len(names)), names)
        bottom.set_ylim(-0.6, len(names) - 0.4)
        bottom.set_xscale("log")
        bottom.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        bottom.xaxis.set_major_formatter("{x:g}")
        bottom.xaxis.set_minor_formatter(ticker.NullFormatter())
        bottom.set_xlabel("ms, from p50 (dot) to p99", fontsize=8)
        for axis in (top, bottom):
            axis.tick_params(labelsize=8)
            axis.spines[["top", "right"]].set_visible(False)
    machine = results["machine"]
    figure.suptitle(
        f"{machine['cores']} cores of {machine['processor']}, TensorFlow {machine['tensorflow']}, "
        f"medians of {results['plan']['rounds']} rounds",
        fontsize=9,
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130)
    pyplot.close(figure)
