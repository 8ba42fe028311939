"""Identifiers: names that users choose, run ids that carry their partition, hashes. Pure: time is an argument.

A run id is 28 characters of lower-case Crockford base32: 26 that identify and 2 that name the partition (0..1023),
so that whoever holds an id can build its subjects. Time-ordered ids are ULIDs (48 bit milliseconds, 80 bit entropy);
ids of runs started with a request id begin with `h` and are a hash of workflow and request id, so that the same
start always means the same run.
"""

from __future__ import annotations

import hashlib
import re

from dagnats_core import limits
from dagnats_core.errors import Problem

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
TASK_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*$"
SITE_PATTERN = r"^[a-z0-9][a-z0-9-]{0,31}$"
RUN_ID_PATTERN = r"^[0-9a-hjkmnp-tv-z]{28}$"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_TASK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*")
_SITE = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_RUN_ID = re.compile(r"[0-9a-hjkmnp-tv-z]{28}")
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_BASE32 = [a + b for a in _ALPHABET for b in _ALPHABET]


def is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def is_task(text: str) -> bool:
    return len(text) <= limits.NAME_LENGTH_MAX and _TASK.fullmatch(text) is not None


def is_site(text: str) -> bool:
    return _SITE.fullmatch(text) is not None


def is_run_id(text: str) -> bool:
    return _RUN_ID.fullmatch(text) is not None


def name_problem(path: str, text: str) -> Problem | None:
    """None if `text` is a name (workflow, step, group, trigger); else what is wrong with it."""
    if is_name(text):
        return None
    return Problem(path, "name", f"{text[:80]!r} is not a name: it must match {NAME_PATTERN}")


def base32(value: int, length: int) -> str:
    """`value` in lower-case Crockford base32, left-padded to `length` characters."""
    pairs = []
    for _ in range((length + 1) // 2):
        pairs.append(_BASE32[value & 1023])
        value >>= 10
    pairs.reverse()
    return "".join(pairs)[-length:]


def _with_partition(stem: str, partition: int) -> str:
    return stem + _BASE32[partition]


def new_run_id(now_ms: int, entropy: int, partitions: int) -> str:
    """A time-ordered run id. `entropy` is an 80 bit random number."""
    stem = base32((now_ms & (1 << 48) - 1) << 80 | entropy & (1 << 80) - 1, 26)
    return _with_partition(stem, entropy % partitions)


def requested_run_id(workflow: str, request_id: str, partitions: int) -> str:
    """The run id that `request_id` means for `workflow`: always the same one."""
    digest = hashlib.sha256(f"{workflow}\x00{request_id}".encode()).digest()
    stem = "h" + base32(int.from_bytes(digest[:16], "big"), 25)
    return _with_partition(stem, int.from_bytes(digest[16:20], "big") % partitions)


def child_run_id(root_run_id: str, key: str) -> str:
    """The id of a child run, in the partition of its root so that both change in one batch."""
    digest = hashlib.sha256(f"{root_run_id}\x00{key}".encode()).digest()
    return "h" + base32(int.from_bytes(digest[:16], "big"), 25) + root_run_id[26:]


def partition_of(run_id: str) -> int:
    """The partition that a run id carries. `run_id` must match `RUN_ID_PATTERN`."""
    return _ALPHABET.index(run_id[26]) * 32 + _ALPHABET.index(run_id[27])


def content_hash(content: bytes) -> str:
    """The hash that names a definition's content: SHA-256, 32 hex characters."""
    return hashlib.sha256(content).hexdigest()[:32]
