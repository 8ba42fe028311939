"""Screens fit the terminal, and nobody can write to it through them."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from dagnats_cli import render
from dagnats_micro.schemas.common import Failure

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def printed(width: int = 80) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=False)


def text_of(out: Console) -> str:
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.012, "12ms"), (0.0996, "0.10s"), (0.84, "0.84s"), (9.996, "10.0s"), (12.34, "12.3s"),
     (59.96, "0m59s"), (245, "4m05s"), (7_620, "2h07m"), (-1, "0ms")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert render.duration(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(-5, "0s ago"), (59, "59s ago"), (3_599, "59m ago"), (90_000, "1d ago")])
def test_ages(seconds: float, text: str) -> None:
    assert render.age((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == text


@pytest.mark.parametrize(("amount", "text"), [(0, "0 B"), (1536, "1.5 KiB"), (3 * 1024 * 1024, "3.0 MiB")])
def test_sizes(amount: int, text: str) -> None:
    assert render.size(amount) == text


class Item(msgspec.Struct):
    run_id: str
    workflow: str
    status: str
    error: Failure | None = None


@given(
    st.lists(st.tuples(st.text(max_size=40), st.text(max_size=60), st.text(max_size=12)), min_size=1, max_size=5),
    st.integers(40, 120),
)
def test_no_text_leaves_its_line_or_reaches_the_terminal_as_a_command(rows: list[tuple[str, ...]], width: int) -> None:
    out = printed(width)
    render.table([Item("0" * 28, name, status) for _, name, status in rows], ("run_id", "workflow", "status"), out)
    lines = text_of(out).splitlines()
    assert len(lines) == len(rows) + 1
    assert all(line.isprintable() for line in lines)


def test_flexible_columns_give_way_and_ids_stay_whole() -> None:
    out = printed(60)
    render.table([Item("0" * 28, "w" * 60, "completed")], ("run_id", "workflow", "status"), out)
    line = text_of(out).splitlines()[1]
    assert cell_len(line) <= 60
    assert "0" * 28 in line
    assert "…" in line
    assert line.endswith("completed")


def test_an_error_stands_below_its_row_with_its_escape_codes_taken_out() -> None:
    out = printed()
    error = Failure(code="handler_error", message="boom\n\x1b[31mred", step="a")
    render.table([Item("r1", "w", "failed", error)], ("run_id", "status", "error"), out)
    assert text_of(out).splitlines()[2] == "  step a: boom  [31mred (handler_error)"


def test_a_preview_is_one_line_and_says_the_size_of_what_is_stored() -> None:
    assert render.preview({"a": "x" * 100}, None, 20) == '{"a":"xxxxxxxxxxxxx…'
    assert render.preview(None, msgspec.defstruct("Ref", [("size", int)])(2048), 20) == "2.0 KiB of JSON"
