"""What a reply looks like to people: tables, fields, ages, durations. Everything here ends on a terminal's stdout.

Text that users or workers wrote is shown without control characters, so that nobody can write to a terminal through us.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from dagnats_core import limits

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from dagnats_micro.schemas.run import RunEvent

PLAIN_WIDTH = 100_000
"""Columns of an output that is no terminal: nothing is cut there."""
FLEXIBLE_WIDTH_MIN = 6
GAP = 2

STYLES = {
    **dict.fromkeys(("completed", "ok"), "green"),
    **dict.fromkeys(("running", "queued"), "cyan"),
    **dict.fromkeys(("waiting", "paused", "degraded"), "yellow"),
    **dict.fromkeys(("failed", "failing", "parked"), "red"),
    **dict.fromkeys(("skipped", "pending"), "dim"),
    "cancelled": "magenta",
}
HEADERS = {
    "version": "ver",
    "created_at": "created",
    "ended_at": "ended",
    "at": "time",
    "duration_ms": "took",
    "last_seen": "seen",
}
_CONTROL = re.compile("[\x7f-\x9f]")
RIGID = frozenset({"run_id", "id", "status", "version", "created_at", "ended_at", "at", "last_seen", "seq", "attempt"})


def console(*, stderr: bool = False) -> Console:
    """A console on stdout (or stderr): as wide as the terminal, or unlimited where there is none."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PLAIN_WIDTH
    return Console(file=stream, highlight=False, soft_wrap=width is not None, width=width)


def clean(text: str) -> str:
    """`text` on one line, without control characters."""
    return "".join(c if c.isprintable() else " " for c in text)


def parse_time(timestamp: str) -> datetime:
    return datetime.fromisoformat(timestamp)


def age(timestamp: str, now: datetime) -> str:
    """How long ago a time was, in its largest unit: `12s ago`."""
    seconds = max(0.0, (now - parse_time(timestamp)).total_seconds())
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit} ago"
    return f"{int(seconds)}s ago"


def duration(seconds: float) -> str:
    """A duration in three or four characters of meaning: `12ms`, `0.84s`, `12.3s`, `4m05s`, `2h07m`."""
    if seconds < 0.0995:
        return f"{max(0, seconds) * 1000:.0f}ms"
    if seconds < 9.995:
        return f"{seconds:.2f}s"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    return f"{minutes // 60}h{minutes % 60:02}m"


def took(start: str | None, end: str | None) -> str:
    """The time between two timestamps; empty unless both are known."""
    if start is None or end is None:
        return ""
    return duration((parse_time(end) - parse_time(start)).total_seconds())


def cell(name: str, value: Any, now: datetime) -> str:
    """The text of one field in a table or a list of fields."""
    if value is None or value in ("", [], {}):
        return "-"
    if name in ("created_at", "ended_at", "started_at", "last_seen", "retry_at"):
        return age(value, now)
    if name == "at":
        return clock(value)
    if name == "duration_ms":
        return duration(value / 1000)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str | int | float):
        return clean(str(value))
    if isinstance(value, list):
        return ", ".join(cell("", item, now) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{clean(str(key))}={cell('', item, now)}" for key, item in value.items())
    return error_text(value)


def clock(timestamp: str) -> str:
    """The local time of day of a timestamp, to the millisecond."""
    return parse_time(timestamp).astimezone().strftime("%H:%M:%S.%f")[:-3]


def error_text(error: Any, at_step: str | None = None) -> str:
    """A Failure or ErrorReply on one line: `message (code)`. The step stands before it, unless it is `at_step`."""
    step = getattr(error, "step", None)
    where = f"step {step}: " if step and step != at_step else ""
    return clean(f"{where}{error.message} ({error.code})")


def header(name: str) -> str:
    return HEADERS.get(name, name.replace("_", " "))


def event_line(event: RunEvent, step_width: int) -> str:
    """One event of a run on one line: when, what, where, and how it went."""
    parts = (
        clock(event.at),
        f"{event.type:<15}",
        f"{clean(event.step or ''):<{step_width}}",
        f"attempt {event.attempt}" if event.attempt else "",
        duration(event.duration_ms / 1000) if event.duration_ms is not None else "",
        event.status or "",
        error_text(event.error, event.step) if event.error else clean(event.reason or ""),
        f"again at {clock(event.retry_at)}" if event.retry_at else "",
    )
    return "  ".join(part for part in parts if part).rstrip()


def table(items: Sequence[Any], columns: Sequence[str], out: Console) -> None:
    """Print structs, one a line, by the names of their fields."""
    now = datetime.now(UTC)
    names = [name for name in columns if name != "error"]
    lines = [[cell(name, getattr(item, name), now) for name in names] for item in items]
    errors = ["" for _ in items]
    if "error" in columns:
        errors = [error_text(item.error, getattr(item, "step", None)) if item.error else "" for item in items]
    grid([header(name) for name in names], lines, [name in RIGID for name in names], errors, out)


def grid(
    titles: Sequence[str], lines: Sequence[Sequence[str]], rigid: Sequence[bool], errors: Sequence[str], out: Console
) -> None:
    """Print lines of cells under titles, words of status in their colour, and below a line its error, if it has one.

    Columns that are not `rigid` give way to the terminal's width.
    """
    from rich.text import Text

    widths = fit([titles, *lines], rigid, out.width)
    out.print(line_of(titles, widths, ["bold"] * len(titles)), no_wrap=True, overflow="crop")
    for cells, error in zip(lines, errors, strict=True):
        styles = [STYLES.get(text, "") for text in cells]
        out.print(line_of(cells, widths, styles), no_wrap=True, overflow="crop")
        if error:
            out.print(Text(f"  {error}", style="red"), overflow="fold")


def line_of(cells: Sequence[str], widths: Sequence[int], styles: Sequence[str]) -> Text:
    """One line of a table, cut to its widths."""
    from rich.cells import cell_len, set_cell_size
    from rich.text import Text

    line = Text(no_wrap=True, overflow="crop")
    for text, width, style in zip(cells, widths, styles, strict=True):
        if cell_len(text) > width:
            text = set_cell_size(text, width - 1).rstrip() + "…"
        line.append(text, style=style)
        line.append(" " * (width - cell_len(text) + GAP))
    line.rstrip()
    return line


def fit(lines: Sequence[Sequence[str]], rigid: Sequence[bool], width: int) -> list[int]:
    """Column widths: as wide as the content, but flexible columns give way, the widest first, until a line fits."""
    from rich.cells import cell_len

    widths = [max(cell_len(text) for text in column) for column in zip(*lines, strict=True)]
    flexible = [index for index, fixed in enumerate(rigid) if not fixed]
    while flexible and sum(widths) + GAP * (len(widths) - 1) > width:
        widest = max(flexible, key=lambda index: widths[index])
        if widths[widest] <= FLEXIBLE_WIDTH_MIN:
            break
        widths[widest] -= 1
    return widths


def fields(pairs: Sequence[tuple[str, str]], out: Console) -> None:
    """Print names and values, values aligned; a long value goes on below its own beginning."""
    from rich.text import Text

    indent = max(len(name) for name, _ in pairs) + GAP
    for name, value in pairs:
        lines = Text(value, style=STYLES.get(value, "")).wrap(out, max(20, out.width - indent), overflow="fold")
        for number, line in enumerate(lines):
            line.rstrip()
            title = Text("" if number else name, style="dim")
            title.pad_right(indent - len(title))
            out.print(title + line, no_wrap=True, overflow="crop")


def struct_fields(struct: msgspec.Struct, out: Console) -> None:
    """Print a reply's fields; what is not set is left out."""
    now = datetime.now(UTC)
    values = ((field, getattr(struct, field)) for field in struct.__struct_fields__)
    set_values = [(name, value) for name, value in values if value not in (None, "", [], {})]
    fields([(name.replace("_", " "), cell(name, value, now)) for name, value in set_values], out)


def json_line(value: Any) -> str:
    """Exactly what came, on one line."""
    return msgspec.json.encode(value).decode()


def json_for(out: Console, value: Any) -> str:
    """JSON text: indented for a terminal, without the control characters that it would obey; else on one line."""
    if not out.is_terminal:
        return json_line(value)
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def preview(value: Any, ref: Any, width: int) -> str:
    """The start of a JSON value on one line of `width`; of one in the payload store its size."""
    if ref is not None:
        return f"{size(ref.size)} of JSON"
    text = clean(json_line(value))
    return text if len(text) <= width else text[: width - 1] + "…"


def size(amount: int) -> str:
    """Bytes in their largest unit: `512 B`, `12.3 KiB`, `4.0 MiB`."""
    if amount < limits.KIB:
        return f"{amount} B"
    return f"{amount / limits.KIB:.1f} KiB" if amount < limits.MIB else f"{amount / limits.MIB:.1f} MiB"


def note(text: str) -> None:
    """Say something beside the result, on stderr, so that it is not in a pipe."""
    from rich.text import Text

    console(stderr=True).print(Text(text, style="dim"))
