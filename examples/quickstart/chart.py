"""Draws a bar chart as SVG: one bar for each word, one colour for each part of the text. Pure text in, text out."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from workflow import Word

WIDTH = 860
LABEL_WIDTH = 190
VALUE_WIDTH = 70
TOP = 132
ROW = 34
BAR = 20
BOTTOM = 58
COLOURS = ("#2f6f9f", "#4fa3a5", "#e0a33e")
PART_NAMES = ("first third", "second third", "last third")
STYLE = """
  text { font-family: ui-sans-serif, system-ui, "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif; }
  .title { font-size: 24px; font-weight: 650; fill: #16212e; }
  .subtitle { font-size: 14px; fill: #5a6675; }
  .word { font-size: 14px; fill: #16212e; text-anchor: end; }
  .value { font-size: 13px; fill: #5a6675; font-variant-numeric: tabular-nums; }
  .tick { font-size: 12px; fill: #8a94a2; text-anchor: middle; }
  .legend { font-size: 13px; fill: #3c4856; }
  .grid { stroke: #e6eaef; stroke-width: 1; }
"""


def draw(title: str, subtitle: str, words: Sequence[Word]) -> str:
    """The chart as the text of an SVG file."""
    height = TOP + ROW * max(1, len(words)) + BOTTOM
    most = max((sum(word.counts) for word in words), default=1)
    step = _tick_step(most)
    end = step * -(-most // step)
    scale = (WIDTH - LABEL_WIDTH - VALUE_WIDTH) / end
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" rx="14" fill="#ffffff"/>',
        f'<text class="title" x="36" y="50">{escape(_short(title, 52))}</text>',
        f'<text class="subtitle" x="36" y="76">{escape(subtitle)}</text>',
        *_legend(),
        *_grid(end, step, scale, height),
    ]
    for row, word in enumerate(words):
        lines += _bar(word, TOP + row * ROW, scale)
    if not words:
        lines.append(f'<text class="subtitle" x="36" y="{TOP + 16}">There are no words of four letters in it.</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def _legend() -> list[str]:
    lines, x = [], 36
    for colour, name in zip(COLOURS, PART_NAMES, strict=True):
        lines.append(f'<rect x="{x}" y="93" width="12" height="12" rx="3" fill="{colour}"/>')
        lines.append(f'<text class="legend" x="{x + 19}" y="104">{name}</text>')
        x += 40 + 7 * len(name)
    return lines


def _grid(end: int, step: int, scale: float, height: int) -> list[str]:
    lines = []
    for value in range(0, end + 1, step):
        x = LABEL_WIDTH + value * scale
        lines.append(f'<line class="grid" x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{height - BOTTOM + 6}"/>')
        lines.append(f'<text class="tick" x="{x:.1f}" y="{height - BOTTOM + 26}">{value:,}</text>')
    return lines


def _bar(word: Word, y: float, scale: float) -> list[str]:
    """The parts of one bar, side by side; the whole is clipped to rounded corners."""
    total = sum(word.counts)
    middle = y + BAR / 2 + 5
    clip = f"bar-{y:.0f}"
    lines = [
        f'<text class="word" x="{LABEL_WIDTH - 14}" y="{middle}">{escape(_short(word.word, 20))}</text>',
        f'<clipPath id="{clip}">',
        f'<rect x="{LABEL_WIDTH}" y="{y}" width="{total * scale:.1f}" height="{BAR}" rx="4"/>',
        "</clipPath>",
        f'<g clip-path="url(#{clip})">',
    ]
    x = float(LABEL_WIDTH)
    for count, colour in zip(word.counts, COLOURS, strict=True):
        lines.append(f'<rect x="{x:.1f}" y="{y}" width="{count * scale:.1f}" height="{BAR}" fill="{colour}"/>')
        x += count * scale
    return [*lines, "</g>", f'<text class="value" x="{x + 9:.1f}" y="{middle}">{total:,}</text>']


def _tick_step(most: int) -> int:
    """The distance of grid lines: 1, 2 or 5 times a power of ten, so that there are at most six."""
    power = 1
    while True:
        for factor in (1, 2, 5):
            if most <= 6 * factor * power:
                return factor * power
        power *= 10


def _short(text: str, chars_max: int) -> str:
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"
