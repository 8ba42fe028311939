"""Durations as users write them, and as the engine counts them: whole milliseconds. Pure.

Three forms are read: "1h30m" (units ns us ms s m h d w, each at most once, largest first), ISO 8601 ("PT90S", "P1DT2H";
no months and years, whose length depends on the calendar), and integers, which are nanoseconds as in the Go files.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal

from dagnats_core import limits
from dagnats_core.errors import Invalid, Problem

NS_PER_MS = 1_000_000
_UNITS_MS = {
    "w": Decimal(7 * limits.DAY_MS),
    "d": Decimal(limits.DAY_MS),
    "h": Decimal(limits.HOUR_MS),
    "m": Decimal(limits.MINUTE_MS),
    "s": Decimal(limits.SECOND_MS),
    "ms": Decimal(1),
    "us": Decimal("0.001"),
    "ns": Decimal("0.000001"),
}
_NUMBER = r"(\d{1,20}(?:\.\d{1,9})?)"
_SHORT = re.compile("".join(rf"(?:{_NUMBER}{unit}(?![a-z]))?" for unit in _UNITS_MS), re.ASCII)
_ISO = re.compile(
    rf"P(?:{_NUMBER}W)?(?:{_NUMBER}D)?(?:T(?=\d)(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?)?", re.ASCII
)
_TEXT_CHARS_MAX = 100
_EXAMPLES = 'write "30s", "1h30m", "250ms" or "PT90S"'


def parse_duration(value: str | int) -> int:
    """A duration in milliseconds, 0 to `DURATION_MS_MAX`; parts of a millisecond are rounded up.

    Raises Invalid for any other text, for a number that is not whole, and for 1 to 999,999 ns: who writes
    `timeout: 30` means seconds, and would get 30 nanoseconds.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _invalid(f"a duration is text or a number of nanoseconds: {_EXAMPLES}")
    ms = _nanoseconds(value) if isinstance(value, int) else _text(value)
    if ms > limits.DURATION_MS_MAX:
        raise _invalid(f"longer than {format_duration(limits.DURATION_MS_MAX)}, the longest duration")
    return ms


def format_duration(ms: int) -> str:
    """The one short text of a duration: 5400000 → "1h30m", 0 → "0s". `parse_duration` gives `ms` back."""
    if ms == 0:
        return "0s"
    text = ""
    for unit in ("d", "h", "m", "s", "ms"):
        count, ms = divmod(ms, int(_UNITS_MS[unit]))
        if count:
            text += f"{count}{unit}"
    return text


def _nanoseconds(value: int) -> int:
    if value < 0:
        raise _invalid("a duration cannot be negative")
    if 0 < value < NS_PER_MS:
        raise _invalid(f"{value} is {value} nanoseconds, less than 1 ms: {_EXAMPLES}")
    return min(-(-value // NS_PER_MS), limits.DURATION_MS_MAX + 1)


def _text(value: str) -> int:
    text = value.strip().replace("µs", "us").replace("μs", "us")
    if text == "0":
        return 0
    if 0 < len(text) <= _TEXT_CHARS_MAX:
        for pattern, units in ((_SHORT, tuple(_UNITS_MS)), (_ISO, ("w", "d", "h", "m", "s"))):
            match = pattern.fullmatch(text)
            if match and any(match.groups()):
                parts = (Decimal(n) * _UNITS_MS[unit] for unit, n in zip(units, match.groups(), strict=True) if n)
                return int(sum(parts, Decimal(0)).to_integral_value(ROUND_CEILING))
    raise _invalid(f"{value[:_TEXT_CHARS_MAX]!r} is not a duration: {_EXAMPLES}")


def _invalid(message: str) -> Invalid:
    return Invalid(message, [Problem("", "duration", message)])
