"""The tables and the picture of docs/performance.md, from the results."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
PHASES = ("replica is up", "nodes are ready", "ready", "first token")
LABELS = ("replica starts", "node initialization", "engine starts", "first token")
COLOURS = ("#9aa5b1", "#d9730d", "#2f6fab", "#3b8f5a")


def write_report(results: dict[str, Any], repository: Path) -> None:
    """Put the tables between the markers of docs/performance.md, and draw the picture."""
    page = repository / "docs" / "performance.md"
    text = page.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{_tables(results)}\n{END}{after}")
    if "deploy_s" in results["samples"]:
        (repository / "docs" / "cold-start.svg").write_text(_picture(results["samples"]["deploy_s"]))


def _tables(results: dict[str, Any]) -> str:
    machine, samples = results["machine"], results["samples"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    lines = [
        f"Measured on {machine['date']}: {machine['cpus']} cores, Python {machine['python']}, {versions}"
        + (" (quick: few samples)." if machine["quick"] else "."),
        "",
        "| key | measured | reach | |",
        "|---|---|---|---|",
    ]
    for key, reach in results["reach"].items():
        value = results["keys"].get(key)
        if value is None:
            continue
        held, shown = value, f"{value:.4g}"
        if key == "point_overhead_us":
            held = samples["point"]["ratio"]
            shown = f"{value:.0f} µs, {held:.2f} × `asyncio.to_thread`"
        lines.append(f"| `{key}` | {shown} | ≤ {reach:g} | {'within' if held <= reach else 'over'} |")
    lines += ["", "| seconds, medians | ours | Ray alone |", "|---|---|---|"]
    for nodes in (1, 3):
        if found := samples.get(f"node_init_{nodes}_s"):
            name = "1 node" if nodes == 1 else f"{nodes} nodes"
            lines.append(
                f"| node initialization, {name} | {median(found['ours']):.2f} | {median(found['theirs']):.2f} |"
            )
    if found := samples.get("deploy_s"):
        for moment in PHASES:
            ours, theirs = (median(row[moment] for row in found[side]) for side in ("ours", "theirs"))
            lines.append(f"| `serve.run` to {moment} | {ours:.1f} | {theirs:.1f} |")
    if found := samples.get("loop_with_clock_vs_loop"):
        lines += [
            "",
            "The bare loop with nothing added but a reading of the clock after each call: "
            + ", ".join(f"{ratio:.2f} × the bare loop ({count} hooks)" for count, ratio in found.items())
            + ".",
        ]
    if "import_of_a_hooks_module_vs_pluggy" in samples:
        ratio = samples["import_of_a_hooks_module_vs_pluggy"]
        lines += [
            "",
            f"A hooks module that also imports `CallbackCtx`, `NodeCtx`, `skip`: {ratio:.2f} × `import pluggy`.",
        ]
    return "\n".join(lines)


def _picture(samples: dict[str, list[dict[str, float]]]) -> str:
    """Two bars on one time axis."""
    rows = {
        name: [median(moments[phase] for moments in samples[side]) for phase in PHASES]
        for name, side in (("Ray alone", "theirs"), ("with hooks", "ours"))
    }
    width, left, bar = 900, 110, 46
    longest = max(row[-1] for row in rows.values())
    scale = (width - left - 40) / longest
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="220" font-family="sans-serif">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for index, (name, ends) in enumerate(rows.items()):
        y = 30 + index * (bar + 22)
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
        parts.append(f'<text x="{left + start * scale + 4:.1f}" y="{y - 6}" text-anchor="end">{start:.1f} s</text>')
    for index, (label, colour) in enumerate(zip(LABELS, COLOURS, strict=True)):
        x = left + index * 185
        parts.append(f'<rect x="{x}" y="180" width="14" height="14" fill="{colour}"/>')
        parts.append(f'<text x="{x + 20}" y="192">{label}</text>')
    return "\n".join([*parts, "</svg>", ""])
