"""Tells what a soak gave: tables on the terminal, soak.json, soak.md and a picture."""

import json
import os
import platform
import sys
from pathlib import Path

import torch
from rich.table import Table

from clip2uda_core import __version__
from clip2uda_core.cli.console import make_console
from clip2uda_ros.soak.faults import FAULTS
from clip2uda_ros.soak.picture import draw
from clip2uda_ros.soak.session import Soak
from clip2uda_ros.soak.summary import Criterion, Summary


def print_report(summary: Summary) -> None:
    """The tables, on standard output."""
    console = make_console()
    sets = summary.values["sets"]
    console.print(
        f"{summary.values['minutes']} minutes; sets: {sets['in']} in = {sets['complete']} complete + {sets['partial']} "
        f"partial + {sets['dropped']} dropped + {sets['unaccounted']} unaccounted"
    )
    latency = summary.values["latency_ms"]
    console.print(f"latency: p50 {latency['p50']} ms, p95 {latency['p95']} ms, p99 {latency['p99']} ms")
    faults = Table("fault", "times", "next output, s", "complete sets after", "latency p50, ms", "p95, ms", box=None)
    for row in _fault_rows(summary):
        faults.add_row(*row)
    console.print(faults)
    criteria = Table("criterion", "measured", "asked for", "", box=None)
    for criterion in summary.criteria:
        criteria.add_row(criterion.name, criterion.value, criterion.asked, _verdict(criterion))
    console.print(criteria)


def _fault_rows(summary: Summary) -> list[tuple[str, ...]]:
    rows = [
        (
            fault.name,
            str(fault.times),
            f"{fault.next_output_s:.2f}",
            str(fault.complete_after),
            f"{fault.latency_p50_ms:.0f}",
            f"{fault.latency_p95_ms:.0f}",
        )
        for fault in summary.faults
    ]
    return rows + [(name, "0", "", "", "", "") for name in summary.values["not_run"]]


def _verdict(criterion: Criterion) -> str:
    return {True: "ok", False: "FAILED", None: "not judged"}[criterion.passed]


def write_report(summary: Summary, soak: Soak, command: str, out: Path) -> list[Path]:
    """soak.json, soak.md and soak.png; returns their paths."""
    paths = [out / "soak.json", out / "soak.md", out / "soak.png"]
    paths[0].write_text(json.dumps(summary.values, indent=1) + "\n", encoding="utf-8")
    paths[1].write_text(_page(summary, command), encoding="utf-8")
    draw(soak, paths[2])
    return paths


def _page(summary: Summary, command: str) -> str:
    values, sets, latency = summary.values, summary.values["sets"], summary.values["latency_ms"]
    rates = ", ".join(f"{rate} Hz ({name} sensors)" for name, rate in values["rates_hz"].items())
    dropped = ", ".join(f"{count} {reason}" for reason, count in values["dropped"].items() if count) or "none"
    lines = [
        "# Soak: the node under load and fault",
        "",
        f"`{command}`",
        "",
        f"{_machine()}. A small untrained model of both branches beside sim-clip, a stand-in for CLIP: what it says "
        f"means nothing, how the node behaves does. Input: {rates}, which keeps the model busy for about 60 % of the "
        "time.",
        "",
        f"{values['minutes']} minutes. Sets: {sets['in']} in = {sets['complete']} complete + {sets['partial']} partial "
        f"+ {sets['dropped']} dropped ({dropped}); {sets['unaccounted']} unaccounted for. Sound clouds "
        f"sent: {values['clouds']['sent']}; what is not in the sets was sent while the node was down, or lost in "
        f"transport, which is best effort. {values['bad_inputs']} malformed inputs were refused. "
        f"{values['clouds']['answered']} of {sets['complete'] + sets['partial']} labelled clouds were received.",
        "",
        f"Latency from the cloud's publishing to the labelled cloud, all conditions together: p50 {latency['p50']} ms, "
        f"p95 {latency['p95']} ms, p99 {latency['p99']} ms.",
        "",
        *_markdown("criterion | measured | asked for | verdict", [
            (c.name, c.value, c.asked, _verdict(c)) for c in summary.criteria
        ]),
        "",
        "![Latency and memory over time, faults shaded](soak.png)",
        "",
        "Next output: from the end of the fault to the labelled cloud of an input that was sent after it; the worst of "
        "all times. Complete sets: in the calm after it; the fewest.",
        "",
        *_markdown(
            "fault | times | next output, s | complete sets after | latency p50, ms | p95, ms", _fault_rows(summary)
        ),
        "",
        *_markdown("fault | what it was", [(name, fault.about) for name, fault in FAULTS.items()]),
    ]  # fmt: skip
    lines += ["", *(f"Not run: {name}, as {reason}." for name, reason in values["not_run"].items())]
    return "\n".join(lines).rstrip() + "\n"


def _markdown(columns: str, rows: list[tuple[str, ...]]) -> list[str]:
    head = [f"| {columns} |", "|" + "---|" * (columns.count("|") + 1)]
    return [*head, *("| " + " | ".join(row) + " |" for row in rows)]


def _machine() -> str:
    models = [line.split(":")[1].strip() for line in _cpu_info() if line.startswith("model name")]
    return (
        f"clip2uda_ros {__version__}, Python {sys.version.split()[0]}, torch {torch.__version__}, {os.cpu_count()} "
        f"CPUs ({models[0] if models else platform.machine()}), load {os.getloadavg()[0]:.1f} at the end"
    )


def _cpu_info() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []
