"""Durations in all their forms, their bounds and their one short text."""

from __future__ import annotations

import pytest

from dagnats_core import limits
from dagnats_core.errors import Invalid
from dagnats_core.flow.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        ("30s", 30_000),
        ("1h30m", 5_400_000),
        ("250ms", 250),
        ("1d", 86_400_000),
        ("1w2d", 9 * 86_400_000),
        ("1.5h", 5_400_000),
        ("0.5s", 500),
        ("1m30s250ms", 90_250),
        (" 5s ", 5_000),
        ("1500us", 2),
        ("1ns", 1),
        ("3µs", 1),
        ("PT90S", 90_000),
        ("PT1H30M", 5_400_000),
        ("P1DT2H", 93_600_000),
        ("P2W", 14 * 86_400_000),
        ("PT0.5S", 500),
        ("0", 0),
        ("0s", 0),
        (0, 0),
        (1_000_000, 1),
        (30_000_000_000, 30_000),
        (1_500_001, 2),
    ],
)
def test_every_form_is_read(value: str | int, ms: int) -> None:
    assert parse_duration(value) == ms


@pytest.mark.parametrize(
    "value",
    [
        "",
        "s",
        "30",
        "-5s",
        "5 s",
        "30m1h",
        "1h1h",
        "5x",
        "P",
        "PT",
        "P1Y",
        "P1M",
        "P1DT",
        "1e3s",
        "١s",
        "1" * 101 + "s",
    ],
)
def test_other_text_is_refused_with_examples(value: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_duration(value)
    assert 'write "30s"' in caught.value.message
    assert caught.value.problems[0].rule == "duration"


def test_a_number_that_meant_seconds_is_refused() -> None:
    with pytest.raises(Invalid, match="30 is 30 nanoseconds"):
        parse_duration(30)


@pytest.mark.parametrize("value", [-1, True, 1.5, None, ["1s"]])
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(Invalid):
        parse_duration(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["366d", "99999999999999999999w", 10**30, "PT99999999999999999999H"])
def test_the_longest_duration_is_a_bound(value: str | int) -> None:
    with pytest.raises(Invalid, match="365d"):
        parse_duration(value)


def test_the_bound_itself_is_allowed() -> None:
    assert parse_duration("365d") == limits.DURATION_MS_MAX
    assert parse_duration(limits.DURATION_MS_MAX * 1_000_000) == limits.DURATION_MS_MAX


@pytest.mark.parametrize(("ms", "text"), [(0, "0s"), (5_400_000, "1h30m"), (90_250, "1m30s250ms"), (86_400_000, "1d")])
def test_there_is_one_short_text(ms: int, text: str) -> None:
    assert format_duration(ms) == text
