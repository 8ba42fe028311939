"""The one text of a definition: what is hashed, stored and shown again. Pure.

The same content in YAML, JSON or Python gives the same bytes on every version of Python: keys are sorted, defaults are
left out, durations are in their short form, floats are written with the fewest digits that give them back.
"""

from __future__ import annotations

import json
from functools import lru_cache

import msgspec

from dagnats_core.flow.model import Definition, Json


def canonical(definition: Definition) -> bytes:
    """The JSON of a definition; `ids.content_hash` of it names the version."""
    # The standard library's encoder, because its text of floats and escapes has been the same for a decade.
    text = json.dumps(_plain(definition), sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode()


def load(content: bytes) -> Definition:
    """The definition that `canonical` wrote. Raises msgspec.DecodeError for anything else."""
    return msgspec.json.decode(content, type=Definition)


def _plain(value: Json) -> Json:
    """Structs as objects, without fields that have their default: by value, where msgspec would go by identity."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if not isinstance(value, msgspec.Struct):
        return value
    parts = ((name, getattr(value, name), default) for name, default in _defaults(type(value)))
    return {name: _plain(part) for name, part, default in parts if part != default or type(part) is not type(default)}


@lru_cache(maxsize=16)
def _defaults(kind: type[msgspec.Struct]) -> list[tuple[str, Json]]:
    return [
        (field.name, field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory())
        for field in msgspec.structs.fields(kind)
    ]
