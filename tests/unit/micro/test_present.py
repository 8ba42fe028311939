"""How runs are shown: times, values, and what is left out so that a message holds it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from dagnats_core import limits
from dagnats_core.errors import Invalid
from dagnats_core.run import messages as m
from dagnats_micro import present

NOW = 1_795_437_000_123


@given(st.integers(0, 4_000_000_000_000))
def test_a_timestamp_is_rfc_3339_in_utc_to_the_millisecond(ms: int) -> None:
    text = present.timestamp(ms)
    assert text.endswith("Z")
    assert datetime.fromisoformat(text) == datetime.fromtimestamp(ms // 1000, UTC).replace(microsecond=ms % 1000 * 1000)
    assert present.time_ms(text, 0, "since") == ms


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-11-23T12:30:00Z", 1795437000000),
        ("2026-11-23T13:30:00+01:00", 1795437000000),
        ("2026-11-23T12:30:00", 1795437000000),
        ("2026-11-23 12:30:00Z", 1795437000000),
        ("2026-11-23", 1795392000000),
        ("1h30m", NOW - 5_400_000),
        ("PT90S", NOW - 90_000),
    ],
)
def test_a_time_is_a_moment_or_a_duration_ago(text: str, ms: int) -> None:
    assert present.time_ms(text, NOW, "since") == ms


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "2026-11-23T25:00:00Z", "-5m", "12", "9" * 400, "١h"])
def test_any_other_text_is_refused_by_its_field(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        present.time_ms(text, NOW, "until")
    assert [problem.path for problem in caught.value.problems] == ["until"]


def final_of(**fields: Any) -> m.FinalRun:
    steps = [m.FinalStep("a", "t", "completed", 1, output=Raw(b"[1]"))]
    base = m.FinalRun("r", "w", 1, "h", "completed", NOW, steps, output_steps=["a"])
    return msgspec.structs.replace(base, **fields)


def test_what_has_not_happened_is_null() -> None:
    shown = present.run_of(final_of(status="running", output_steps=[]))
    assert (shown.started_at, shown.ended_at, shown.output, shown.error) == (None, None, None, None)
    assert (shown.request_id, shown.retry_of, shown.input) == (None, None, None)


def test_a_small_output_stands_in_the_run_and_a_large_one_is_named() -> None:
    assert present.run_of(final_of()).output == Raw(b"[1]")
    large = Raw(b'"%s"' % (b"x" * limits.INLINE_BYTES_MAX))
    shown = present.run_of(final_of(steps=[m.FinalStep("a", "t", "completed", output=large)]))
    assert (shown.output, shown.output_size) == (None, limits.INLINE_BYTES_MAX + 2)
    ref = m.Ref("p", 900, "s")
    shown = present.run_of(final_of(steps=[m.FinalStep("a", "t", "completed", output_ref=ref)]))
    assert shown.output_ref is not None
    assert (shown.output, shown.output_ref.id, shown.output_size) == (None, "p", 900)


def test_the_segments_of_an_output_are_its_json() -> None:
    output: present.Output = {"a": Raw(b"1"), "b": Raw(b'"x"')}
    text = b"".join(part for part in present.segments_of(output) if isinstance(part, bytes))
    assert msgspec.json.decode(text) == {"a": 1, "b": "x"}
    assert present.size_of(output) == len(text)
    assert present.segments_of(None) == []


@pytest.mark.parametrize("count", [10, 1000])
def test_a_run_always_fits_a_message(count: int) -> None:
    error = m.ErrorInfo("code", "m" * 4000, "s", Raw(b'"%s"' % (b"d" * 4000)))
    steps = [
        m.FinalStep(f"step-{number:060}", "t" * 64, "failed", 9, "w" * 64, error, NOW, NOW) for number in range(count)
    ]
    value = Raw(b'"%s"' % (b"v" * (limits.INLINE_BYTES_MAX - 10)))
    shown = present.run_of(final_of(status="failed", steps=steps, input=value, error=error))
    assert len(msgspec.json.encode(shown)) <= limits.MESSAGE_BYTES_MAX
    assert len(shown.steps) == count
    assert (shown.steps[0].error is not None and len(shown.steps[0].error.message)) == (4000 if count == 10 else 200)
