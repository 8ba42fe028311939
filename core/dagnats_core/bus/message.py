"""Messages as they come off the wire, and the header blocks that go onto it. Pure: no IO, no clock.

A received message keeps its headers as the raw block that the server sent and reads a header only when it
is asked for. A *header block* to send is header lines alone (`Name: value\\r\\n`…), so that blocks built
once can be added: `fence + msg_id`. The connection puts the version line before and the empty line after
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from dagnats_core.errors import Invalid, Problem

END = b"\r\n"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class FastMessage(msgspec.Struct, gc=False):
    """One received message. `headers` is the raw block, version line first, or empty."""

    subject: str
    reply: str
    data: bytes
    headers: bytes = b""

    def header(self, name: str | bytes) -> str | None:
        """The first value of a header (names are case-sensitive), or None."""
        return find_header(self.headers, name)

    @property
    def status(self) -> int:
        """The status that the server wrote into the version line (100, 404, 503 …); 0 for a plain message."""
        return status_of(self.headers)

    @property
    def description(self) -> str:
        """The words after the status, empty for a plain message."""
        if self.headers[8:9] != b" ":
            return ""
        return self.headers[13 : self.headers.find(END)].decode("utf-8", "replace")


class StoredMessage(msgspec.Struct, gc=False):
    """One message as a stream stores it. `headers` is the raw block as it was published, or with the
    server's own."""

    subject: str
    seq: int
    time_ms: int
    data: bytes
    headers: bytes = b""

    def header(self, name: str | bytes) -> str | None:
        """The first value of a header (names are case-sensitive), or None."""
        return find_header(self.headers, name)


def status_of(headers: bytes) -> int:
    return int(headers[9:12]) if headers[8:9] == b" " else 0


def find_header(block: bytes, name: str | bytes) -> str | None:
    """The first value of header `name` in a received block, stripped; None if it is not there."""
    if not block:
        return None
    key = b"\r\n%b:" % (name.encode() if isinstance(name, str) else name)
    start = block.find(key)
    if start < 0:
        return None
    start += len(key)
    return block[start : block.find(END, start)].strip().decode("utf-8", "replace")


def header_block(headers: Mapping[str, str]) -> bytes:
    """Header lines for `publish_raw`. Raises Invalid for a name or value that would break out of its line."""
    lines = []
    for name, value in headers.items():
        if not name or not name.isascii() or any(c <= " " or c == ":" for c in name):
            raise Invalid("bad header name", [Problem("headers", "header_name", f"{name[:80]!r} is not a token")])
        if "\r" in value or "\n" in value:
            raise Invalid("bad header value", [Problem(f"headers.{name}", "header_value", "it holds a line break")])
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode()


def time_ms_of(rfc3339: str) -> int:
    """Milliseconds since 1970 of a time as the server writes it (nanoseconds, `Z`)."""
    return (datetime.fromisoformat(rfc3339) - _EPOCH) // _MILLISECOND
