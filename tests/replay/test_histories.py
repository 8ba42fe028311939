"""Recorded histories fold to the records that they ended with, for ever."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from dagnats_core.flow.plan import compile_plan
from dagnats_core.flow.validate import validate
from dagnats_core.run import messages as m
from dagnats_core.run.fold import LogMessage, fold
from dagnats_core.run.state import RunState
from dagnats_core.run.views import final_of
from tests.replay.record import HISTORIES, History

FILES = sorted(HISTORIES.glob("*.json"))


def read(path: Path) -> History:
    return msgspec.json.decode(path.read_bytes(), type=History)


def folded(history: History, messages: int | None = None) -> RunState:
    definition, problems, _ = validate(msgspec.json.decode(history.definition))
    assert definition is not None, problems
    plan = compile_plan(definition)
    log = [LogMessage(line.seq, line.kind, bytes(line.data), line.key) for line in history.log[:messages]]
    return fold(history.run_id, log, lambda start: plan)


def test_there_are_histories() -> None:
    assert len(FILES) >= 7


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_folds_to_the_record_that_it_ended_with(path: Path) -> None:
    history = read(path)
    shown = msgspec.json.decode(m.encode(final_of(folded(history))))
    assert shown == msgspec.json.decode(history.final)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_beginning_of_it_folds(path: Path) -> None:
    history = read(path)
    for length in range(1, len(history.log)):
        state = folded(history, length)
        assert not state.ended
        assert final_of(state).status in ("pending", "running")
