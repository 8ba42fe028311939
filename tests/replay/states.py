"""Runs in the middle of their lives, as files: one JSON value a line — the run, its messages as they are stored, and
how it stood then. Runs that ended are in `histories`.

What is in a file may be in somebody's log: it must be readable for ever, so files are added and never changed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw

from dagnats_core.flow.canonical import load
from dagnats_core.flow.plan import compile_plan
from dagnats_core.run import messages as m
from dagnats_core.run.fold import LogMessage, fold
from dagnats_core.run.state import RunState, fields_of

FOLDER = Path(__file__).with_name("states")
STEP_FIELDS = [
    "status",
    "attempt",
    "nonce",
    "worker_id",
    "queued_at",
    "started_at",
    "ended_at",
    "due",
    "error",
    "reports",
]
RUN_FIELDS = [
    "status",
    "n",
    "folded",
    "started_at",
    "ended_at",
    "deadline",
    "cancel",
    "parked",
    "error",
    "output_steps",
    "armed",
]


class Head(msgspec.Struct):
    """The first line: the run, its definition, and the snapshot at which its log begins, if it does."""

    run_id: str
    about: str
    definition: Raw
    snapshot: m.Snapshot | None = None


class Line(msgspec.Struct, omit_defaults=True):
    """A message of the log, as `LogMessage`."""

    seq: int
    kind: str
    data: Raw
    key: str = ""


def told(state: RunState) -> Any:
    """How a run stands, as data that outlives the classes that hold it."""
    steps = {}
    for step_id, step in state.steps.items():
        output, output_ref = fields_of(step.output)
        fields = {name: getattr(step, name) for name in STEP_FIELDS}
        steps[step_id] = fields | {"output": None if output_ref else output, "output_ref": output_ref}
    run = {name: getattr(state, name) for name in RUN_FIELDS}
    if state.ended:
        run["armed"] = None  # the end took the timer away, of which an engine need not hear
    return run | {"steps": steps}


def write(path: Path, head: Head, lines: list[Line], state: RunState) -> None:
    """Make a file; one that stands is never changed."""
    parts = [msgspec.json.encode(part) for part in (head, *lines, told(state))]
    with path.open("xb") as file:
        file.write(b"\n".join(parts) + b"\n")


def read(path: Path) -> tuple[RunState, Any]:
    """The run folded from a file, and how it stood when the file was made."""
    first, *middle, last = path.read_bytes().splitlines()
    head = msgspec.json.decode(first, type=Head)
    plan = compile_plan(load(bytes(head.definition)))
    lines = [msgspec.json.decode(line, type=Line) for line in middle]
    log = [LogMessage(line.seq, line.kind, bytes(line.data), line.key) for line in lines]
    return fold(head.run_id, log, lambda start: plan, head.snapshot), msgspec.json.decode(last)
