"""The one text of a definition: what is hashed, stored and shown again. Pure.

The same content in YAML, JSON or Python gives the same bytes on every version of Python: keys are sorted, defaults are
left out, durations are in their short form, floats are written with the fewest digits that give them back.
"""

from __future__ import annotations

import json

import msgspec

from dagnats_core.flow.model import Definition


def canonical(definition: Definition) -> bytes:
    """The JSON of a definition; `ids.content_hash` of it names the version."""
    # The standard library's encoder, because its text of floats and escapes has been the same for a decade.
    text = json.dumps(
        msgspec.to_builtins(definition), sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )
    return text.encode()


def load(content: bytes) -> Definition:
    """The definition that `canonical` wrote. Raises msgspec.DecodeError for anything else."""
    return msgspec.json.decode(content, type=Definition)
