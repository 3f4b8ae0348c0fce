"""``svg_of``: a start as a picture, one line for each hook call and step; ``page_of``: a page with it."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from .bars import seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .bars import Bar

COLOURS = {
    "ok": "#2e7d32",
    "step": "#90a4ae",
    "vetoed": "#00838f",
    "failed": "#c62828",
    "timed_out": "#c62828",
    "cancelled": "#ef6c00",
    "warned": "#ef6c00",
    "disabled": "#bdbdbd",
    "skipped": "#bdbdbd",
    "replayed": "#a5d6a7",
}
BEGIN_DATA, END_DATA = '<script type="application/json" id="serve-llm-hooks">', "</script>"
_WIDTH, _NAMES, _TIMES, _LINE = 1100, 360, 80, 20
_LONGEST_NAME = 52
_OURS = "serve-llm-hooks"  # the style holds for this class alone: in a notebook, the page is somebody else's
_STYLE = "".join(
    f".{_OURS} {rule}"
    for rule in (
        "text{font:12px system-ui,sans-serif;fill:#222}",
        ".place{font-weight:600}",
        ".time{fill:#666}",
        ".row:hover rect.bar{stroke:#000}",
        ".row:hover rect.back{fill:#eef3f8}",
    )
)


def svg_of(bars: Sequence[Bar]) -> str:
    """Return the picture: names, bars, times; what else is known of a bar is shown where the mouse is over it."""
    if not bars:
        return "<p>(no hook ran)</p>"
    end_s = max(bar.start_s + bar.took_s for bar in bars) or 1.0
    scale = (_WIDTH - _NAMES - _TIMES) / end_s
    lines: list[str] = []
    y, place = 4, None
    for bar in bars:
        if bar.place != place:
            place = bar.place
            lines.append(f'<text class="place" x="4" y="{y + 14}">{_text(place)}</text>')
            y += _LINE
        lines.append(_line(bar, y, scale))
        y += _LINE
    ticks = "".join(_tick(end_s * part / 4, scale, y) for part in range(5))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{_OURS}" viewBox="0 0 {_WIDTH} {y + 20}" width="{_WIDTH}" '
        f'style="max-width:100%;background:#fff"><style>{_STYLE}</style>{ticks}{"".join(lines)}</svg>'
    )


def page_of(title: str, lines: Sequence[str], svg: str, document: str) -> str:
    """Return a page that needs no network, and runs no script.

    Args:
        title: the page's title.
        lines: what is written above the picture.
        svg: the picture.
        document: the trace as JSON, for programs that read the page.
    """
    above = "".join(f"<p>{_text(line)}</p>" for line in lines)
    data = document.replace("<", "\\u003c")
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        "<style>body{font:14px system-ui,sans-serif;margin:1.5em;background:#fff;color:#222}</style></head>\n"
        f"<body><h1>{_text(title)}</h1>{above}\n{svg}\n{BEGIN_DATA}{data}{END_DATA}\n</body></html>\n"
    )


def _line(bar: Bar, y: int, scale: float) -> str:
    x = _NAMES + bar.start_s * scale
    width = max(2.0, bar.took_s * scale)
    name = bar.what if len(bar.what) <= _LONGEST_NAME else f"{bar.what[: _LONGEST_NAME - 1]}…"
    times = f"from {seconds(bar.start_s)}, took {seconds(bar.took_s)}"
    hover = "\n".join((bar.what, times, *bar.details))
    colour = COLOURS.get(bar.outcome, COLOURS["step"])
    return (
        f'<g class="row"><title>{_text(hover)}</title>'
        f'<rect class="back" x="0" y="{y}" width="{_WIDTH}" height="{_LINE}" fill="transparent"/>'
        f'<text x="16" y="{y + 14}">{_text(name)}</text>'
        f'<rect class="bar" x="{x:.1f}" y="{y + 4}" width="{width:.1f}" height="12" rx="2" fill="{colour}"/>'
        f'<text class="time" x="{x + width + 4:.1f}" y="{y + 14}">{seconds(bar.took_s)}</text></g>'
    )


def _tick(at_s: float, scale: float, height: int) -> str:
    x = _NAMES + at_s * scale
    return (
        f'<line x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{height}" stroke="#e0e0e0"/>'
        f'<text class="time" x="{x:.1f}" y="{height + 14}" text-anchor="middle">{seconds(at_s)}</text>'
    )


def _text(text: str) -> str:
    """Return a text for a page: it may be an error's, with anything in it."""
    shown = "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)
    return html.escape(shown)
