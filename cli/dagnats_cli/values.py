"""What people type as a value: JSON from an option, a file or stdin, durations, tags. Reads files; nothing else."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import msgspec

from dagnats_core import limits
from dagnats_core.errors import Invalid, Problem, TooLarge

STDIN = "-"

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?")
_UNITS_S = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)


def read_bytes(name: str, about: str) -> bytes:
    """The content of a file, or of stdin if `name` is `-`. `about` names the argument in errors.

    Raises Invalid if it cannot be read, TooLarge above `limits.PAYLOAD_BYTES_MAX`.
    """
    bound = limits.PAYLOAD_BYTES_MAX
    try:
        if name == STDIN:
            data = sys.stdin.buffer.read(bound + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(bound + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise Invalid(f"cannot read {name}", [Problem(about, "readable", reason)]) from error
    if len(data) > bound:
        raise TooLarge(f"{about}: {name} is larger than {bound} bytes", [Problem(about, "size", f"at most {bound}")])
    return data


def read_text(name: str, about: str) -> str:
    """The content of a UTF-8 file, or of stdin. Raises as `read_bytes`, and Invalid if it is not UTF-8."""
    data = read_bytes(name, about)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = Problem(about, "utf8", f"not UTF-8 at byte {error.start}")
        raise Invalid(f"{name} is not a text file", [problem]) from error


def read_json(text: str, about: str) -> Any:
    """The JSON value that `text` is, that the file after `@` holds, or that stdin (`-`) brings."""
    if text == STDIN or text.startswith("@"):
        return parse_json(read_bytes(text.removeprefix("@"), about), about)
    return parse_json(text.encode(), about)


def parse_json(data: bytes, about: str) -> Any:
    """The value of JSON text. Raises Invalid that says where it stops being JSON."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Invalid(f"{about} is not JSON", [Problem(about, "json", where_json_breaks(data, error))]) from error


def where_json_breaks(data: bytes, error: Exception) -> str:
    """Line and column of the first fault of JSON text, and a glimpse of what stands there."""
    try:
        json.loads(data.decode())
    except json.JSONDecodeError as found:
        seen = found.doc[found.pos : found.pos + 20].split("\n")[0]
        near = f" at {seen!r}" if seen else " at the end"
        return f"{found.msg}, line {found.lineno} column {found.colno}{near}"
    except UnicodeDecodeError as found:
        return f"not UTF-8 at byte {found.start}"
    except RecursionError:
        return "nested too deeply"
    return str(error) or "nested too deeply"


def read_json_list(name: str, about: str) -> list[Any]:
    """The values of a file, or of stdin: one JSON array, or JSON Lines (one value a line, empty lines skipped)."""
    data = read_bytes(name.removeprefix("@"), about)
    if data.lstrip()[:1] == b"[":
        try:
            return msgspec.json.decode(data, type=list[Any])
        except msgspec.DecodeError:
            pass  # JSON Lines whose first value is a list
    lines = enumerate(data.splitlines(), start=1)
    return [parse_json(line, f"{about} (line {number})") for number, line in lines if line.strip()]


def parse_duration_s(text: str, about: str) -> float:
    """Seconds of `90`, `1.5`, `30s`, `1h30m`, `250ms`. Raises Invalid for anything else and for 0."""
    match = _DURATION.fullmatch(text)
    if text and match:
        seconds = sum(float(amount or 0) * unit for amount, unit in zip(match.groups(), _UNITS_S, strict=True))
    else:
        seconds = float(text) if re.fullmatch(r"\d+(?:\.\d+)?", text) else 0.0
    if seconds <= 0:
        problem = Problem(about, "duration", f"{text[:40]!r} is not a duration above 0 such as 30, 30s or 1h30m")
        raise Invalid(f"{about} is not a duration", [problem])
    return seconds


def parse_tags(texts: list[str]) -> list[str] | dict[str, str]:
    """Tags as a request has them: names with values if all are `name=value`, else plain tags."""
    pairs = [text.partition("=") for text in texts]
    if texts and all(name and separator for name, separator, _ in pairs):
        return {name: value for name, _, value in pairs}
    return texts
