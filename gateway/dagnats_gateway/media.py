"""Media types of requests and answers: what may be sent here, what the client takes. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from dagnats_micro import DagNatsError

JSON = "application/json"
YAML = "application/yaml"
EVENT_STREAM = "text/event-stream"


def body_type(content_type: str, content_encoding: str, understood: Sequence[str]) -> str:
    """The type of a body, one of `understood`. Raises `unsupported_media_type` for any other."""
    if content_encoding.strip().lower() not in ("", "identity"):
        raise _unsupported(f"Content-Encoding {content_encoding[:80]!r}: send the body as it is")
    essence, *parameters = (part.strip().lower() for part in content_type.split(";"))
    charsets = {value.strip('"') for key, _, value in (p.partition("=") for p in parameters) if key == "charset"}
    if essence not in understood or charsets - {"utf-8"}:
        given = repr(content_type[:80]) if content_type else "no Content-Type"
        raise _unsupported(f"{given}: this takes {' or '.join(understood)} in UTF-8")
    return essence


def negotiate(accept: str, offered: Sequence[str]) -> str:
    """The offered type that an Accept header likes best; the first one on a tie. Raises `not_acceptable`."""
    if not accept.strip():
        return offered[0]
    ranges = [_range(part) for part in accept.split(",")]
    best = max(offered, key=lambda media: _quality(media, ranges))
    if _quality(best, ranges) <= 0:
        raise DagNatsError(f"this answers with {' or '.join(offered)}", code="not_acceptable")
    return best


def _range(part: str) -> tuple[str, float]:
    essence, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key == "q":
            try:
                return essence, float(value)
            except ValueError:
                return essence, 0.0
    return essence, 1.0


def _quality(media: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The weight of the most specific range that covers `media` (RFC 9110, 12.5.1); 0 if none does."""
    by_range = dict(ranges)
    for name in (media, media.partition("/")[0] + "/*", "*/*"):
        if name in by_range:
            return by_range[name]
    return 0.0


def _unsupported(message: str) -> DagNatsError:
    return DagNatsError(message, code="unsupported_media_type")
