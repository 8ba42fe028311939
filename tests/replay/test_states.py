"""Every log that was ever recorded folds to the state that was recorded with it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.replay import record_states
from tests.replay.states import FOLDER, read, told

STATES = sorted(FOLDER.glob("*.jsonl"))


@pytest.mark.parametrize("path", STATES, ids=lambda path: path.stem)
def test_a_log_folds_to_its_recorded_state(path: Path) -> None:
    state, recorded = read(path)
    assert msgspec.to_builtins(msgspec.json.decode(msgspec.json.encode(told(state)))) == recorded


def test_recording_again_changes_nothing() -> None:
    before = {path: path.read_bytes() for path in STATES}
    record_states.main()
    assert {path: path.read_bytes() for path in sorted(FOLDER.glob("*.jsonl"))} == before


def test_all_kinds_of_messages_are_among_them() -> None:
    kinds = {msgspec.json.decode(line)["kind"] for path in STATES for line in path.read_bytes().splitlines()[1:-1]}
    wanted = "in.start in.cancel in.timer out.task out.events out.ended out.parked out.snapshot timer"
    assert kinds >= set(wanted.split())
