"""The tables and the picture of docs/performance.md, from the results.

`python -m benchmarks.report` makes them again from benchmarks/results.json; a test holds that they are what it says.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from .steps import STEPS

REPOSITORY = Path(__file__).parents[1]
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
GPU_BEGIN, GPU_END = "<!-- gpu:begin -->", "<!-- gpu:end -->"
PHASES = ("replica is up", "nodes are ready", "ready", "first token")
LABELS = ("replica starts", "node initialization", "engine starts", "first token")
COLOURS = ("#9aa5b1", "#d9730d", "#2f6fab", "#3b8f5a")


class Verdict(NamedTuple):
    """A key, and whether it is within its reach."""

    key: str
    shown: str
    reach: float
    verdict: str


def verdicts(results: dict[str, Any]) -> list[Verdict]:
    """All keys that there should be, in order."""
    rows = []
    for key, reach in results["reach"].items():
        value = results["keys"].get(key)
        if value is None:
            rows.append(Verdict(key, "–", reach, "not measured"))
            continue
        held, shown = value, f"{value:.4g}"
        if key == "point_overhead_us":  # microseconds; what is held against the reach is the ratio to the yardstick
            held = results["samples"]["point"]["ratio"]
            shown = f"{value:.0f} µs, {held:.2f} × `asyncio.to_thread`"
        rows.append(Verdict(key, shown, reach, "within" if held <= reach else "over"))
    return rows


def write_report(results: dict[str, Any], repository: Path = REPOSITORY) -> None:
    """Put the tables between the markers of docs/performance.md, and draw the picture."""
    for path, text in rendered(results, repository).items():
        path.write_text(text)


def rendered(results: dict[str, Any], repository: Path = REPOSITORY) -> dict[Path, str]:
    """The files that show the results, as they should be."""
    page = repository / "docs" / "performance.md"
    text = _between(BEGIN, tables(results), END, page.read_text())
    on_gpu = repository / "benchmarks" / "gpu-results.json"
    measured = json.loads(on_gpu.read_text()) if on_gpu.exists() else None
    files = {page: _between(GPU_BEGIN, gpu_table(measured, results["reach"]), GPU_END, text)}
    if "deploy_s" in results["samples"]:
        files[repository / "docs" / "cold-start.svg"] = picture(results["samples"]["deploy_s"])
    return files


def _between(begin: str, new: str, end: str, text: str) -> str:
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{new}\n{end}{after}"


def gpu_table(measured: dict[str, Any] | None, reach: dict[str, float]) -> str:
    """Return the page's lines on the figures of a GPU; ``None`` stands for no figures."""
    if measured is None:
        return "Nothing has been measured on a GPU: none has been at hand since `scripts/gpu-measure.sh` was written."
    lines = [f"Device: {measured['device']}.", "", *_stamps(measured["stamps"]), ""]
    lines += ["| key | measured | reach |", "|---|---|---|"]
    for key, value in measured["keys"].items():
        lines.append(f"| `{key}` | {value:.4g} | {f'≤ {reach[key]:g}' if key in reach else ''} |")
    return "\n".join(lines)


def tables(results: dict[str, Any]) -> str:
    """Return what stands between the markers."""
    samples = results["samples"]
    lines = [
        *_stamps(results["stamps"]),
        "",
        "| key | measured | reach | |",
        "|---|---|---|---|",
        *(f"| `{row.key}` | {row.shown} | ≤ {row.reach:g} | {row.verdict} |" for row in verdicts(results)),
        "",
        "| seconds, medians | ours | Ray alone |",
        "|---|---|---|",
    ]
    for nodes in (1, 3):
        name = "1 node" if nodes == 1 else f"{nodes} nodes"
        if found := samples.get(f"node_init_{nodes}_s"):
            lines.append(
                f"| node initialization, {name} | {median(found['ours']):.2f} | {median(found['theirs']):.2f} |"
            )
        if found := samples.get(f"gpu_path_{nodes}_s"):
            for since, what in (("start begins", "`start()`"), ("server module", "the import of the server's module")):
                if since == "server module" and nodes > 1:
                    continue  # three nodes on one machine share its cores
                ours, theirs = (median(row[since] for row in found[side]) for side in ("ours", "theirs"))
                lines.append(f"| {what} to the engine's config, {name}, made-up GPU | {ours:.2f} | {theirs:.2f} |")
    if found := samples.get("deploy_s"):
        for moment in PHASES:
            ours, theirs = (median(row[moment] for row in found[side]) for side in ("ours", "theirs"))
            lines.append(f"| `serve.run` to {moment} | {ours:.1f} | {theirs:.1f} |")
    if found := samples.get("download_s"):
        ours, theirs, without = (
            median(row["ready"] for row in found[side]) for side in ("ours", "theirs", "ours without a download")
        )
        what = f"`serve.run` to ready, with a download of 10 s (ours without one: {without:.1f})"
        lines.append(f"| {what} | {ours:.1f} | {theirs:.1f} |")
    if found := samples.get("timed"):
        lines += [*_steps(found), *_parts(found)]
    else:
        lines += ["", "The steps of a cold start, and what `hook_share` counts: not yet measured."]
    lines += _sentences(samples)
    return "\n".join(lines)


def _stamps(stamps: dict[str, Any]) -> list[str]:
    """When and on what; once, for parts that were measured together."""
    parts: dict[str, list[str]] = {}
    for part, stamp in stamps.items():
        versions = ", ".join(f"{name} {number}" for name, number in stamp["versions"].items())
        memory = f"{stamp['memory_gib']:g} GiB, " if stamp.get("memory_gib") else ""
        kernel = f"Linux {stamp['kernel']}, " if stamp.get("kernel") else ""
        text = (
            f"{stamp['date']}, commit {stamp['commit']}: {stamp['cpus']} cores ({stamp['cpu']}), {memory}{kernel}"
            f"Python {stamp['python']}, {versions}" + (" (quick: few samples)" if stamp["quick"] else "")
        )
        parts.setdefault(text, []).append(part)
    if len(parts) == 1:
        return [f"Measured on {next(iter(parts))}."]
    return [f"- {', '.join(names)}: measured on {text}." for text, names in parts.items()]


def _steps(timed: list[dict[str, Any]]) -> list[str]:
    """Where the time of a timed start goes."""
    lines = ["", "| step of a cold start | seconds | whose |", "|---|---|---|"]
    for step in STEPS:
        took = [start["steps"][step.until] for start in timed if step.until in start["steps"]]
        if took:
            lines.append(f"| {step.what} | {median(took):.3f} | {step.whose} |")
    return lines


def _parts(timed: list[dict[str, Any]]) -> list[str]:
    """Return what `hook_share` counts."""
    names = dict.fromkeys(name for start in timed for name in start["parts"])
    lines = ["", "| counted in `hook_share` | milliseconds |", "|---|---|"]
    for name in names:
        lines.append(f"| {name} | {median(start['parts'].get(name, 0.0) for start in timed) * 1000:.1f} |")
    return lines


def _sentences(samples: dict[str, Any]) -> list[str]:
    lines = []
    if found := samples.get("recording_loop_vs_loop"):
        lines += [
            "",
            "The bare loop with nothing added but a reading of the clock after each call, appended to a list: "
            + ", ".join(f"{ratio:.2f} × the bare loop ({count} hooks)" for count, ratio in found.items())
            + ".",
        ]
    if found := samples.get("whole_point_us"):
        lines += [
            "",
            "A whole point of sync hooks, with all that the event loop does for it (cutting into runs, the trace, "
            "asyncio's own `run_in_executor`) and an executor that calls at once: "
            + ", ".join(f"{row['ours']:.0f} µs for {count} hooks" for count, row in found.items())
            + "; the bare loop alone: "
            + ", ".join(f"{row['loop']:.2f} µs" for row in found.values())
            + ".",
        ]
    if "import_of_a_hooks_module_vs_pluggy" in samples:
        ratio = samples["import_of_a_hooks_module_vs_pluggy"]
        lines += [
            "",
            f"A hooks module that also imports `CallbackCtx`, `NodeCtx`, `skip`: {ratio:.2f} × `import pluggy`.",
        ]
    return lines


def picture(samples: dict[str, list[dict[str, float]]]) -> str:
    """Two bars on one time axis."""
    rows = {
        name: [median(moments[phase] for moments in samples[side]) for phase in PHASES]
        for name, side in (("Ray alone", "theirs"), ("with hooks", "ours"))
    }
    width, height, left, bar, axis = 900, 250, 110, 46, 176
    longest = max(row[-1] for row in rows.values())
    scale = (width - left - 40) / longest
    apart = next((step for step in (1, 2, 5, 10, 20, 50) if longest / step <= 10), 100)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<line x1="{left}" y1="{axis}" x2="{left + longest * scale:.1f}" y2="{axis}" stroke="#52606d"/>',
    ]
    for second in range(0, int(longest) + 1, apart):
        x = left + second * scale
        parts.append(f'<line x1="{x:.1f}" y1="20" x2="{x:.1f}" y2="{axis + 5}" stroke="#cbd2d9"/>')
        parts.append(f'<text x="{x:.1f}" y="{axis + 20}" font-size="12" text-anchor="middle">{second} s</text>')
    for index, (name, ends) in enumerate(rows.items()):
        y = 36 + index * (bar + 24)
        parts.append(f'<text x="10" y="{y + bar / 2 + 5}">{name}</text>')
        start = 0.0
        for end, colour in zip(ends, COLOURS, strict=True):
            parts.append(
                f'<rect x="{left + start * scale:.1f}" y="{y}" width="{max((end - start) * scale, 1):.1f}" '
                f'height="{bar}" fill="{colour}"/>'
            )
            if (end - start) * scale > 40:
                middle = left + (start + end) / 2 * scale
                parts.append(
                    f'<text x="{middle:.1f}" y="{y + bar / 2 + 5}" fill="white" text-anchor="middle">'
                    f"{end - start:.1f} s</text>"
                )
            start = end
        parts.append(f'<text x="{left + start * scale:.1f}" y="{y - 5}" text-anchor="end">{start:.1f} s</text>')
    for index, (label, colour) in enumerate(zip(LABELS, COLOURS, strict=True)):
        x = left + index * 185
        parts.append(f'<rect x="{x}" y="{axis + 40}" width="14" height="14" fill="{colour}"/>')
        parts.append(f'<text x="{x + 20}" y="{axis + 52}">{label}</text>')
    return "\n".join([*parts, "</svg>", ""])


def main() -> int:
    """Make the page and the picture again."""
    write_report(json.loads((REPOSITORY / "benchmarks" / "results.json").read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
