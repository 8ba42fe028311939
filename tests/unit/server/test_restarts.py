"""When a server that died is started again, and when nobody tries any longer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dagnats_core import limits
from dagnats_core.server.supervisor import restart_delay_ms


def delays_of(gap_ms: int, deaths: int) -> list[int | None]:
    """The answers for deaths that come `gap_ms` after each other."""
    times = [gap_ms * n for n in range(deaths)]
    return [restart_delay_ms(times[: n + 1], times[n]) for n in range(deaths)]


def test_the_first_death_of_a_while_is_answered_at_once() -> None:
    assert delays_of(10_000, 50) == [0] * 50


def test_the_delay_doubles_to_its_bound() -> None:
    assert delays_of(0, 9) == [0, 100, 200, 400, 800, 1600, 2000, 2000, 2000]


def test_too_many_deaths_in_the_window_end_it() -> None:
    answers = delays_of(100, limits.SERVER_RESTARTS_MAX + 1)
    assert None not in answers[:-1]
    assert answers[-1] is None


def test_one_kill_a_second_among_three_victims_is_survived() -> None:
    assert None not in delays_of(3_100, 1000)


@given(st.lists(st.integers(0, 600_000), min_size=1, max_size=100))
def test_the_delay_is_always_bounded(times: list[int]) -> None:
    times.sort()
    delay = restart_delay_ms(times, times[-1])
    assert delay is None or 0 <= delay <= limits.SERVER_RESTART_DELAY_MS_MAX
