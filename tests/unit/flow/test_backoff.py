"""Which policy a step has, and the delays that it gives."""

from __future__ import annotations

import pytest

from dagnats_core import limits
from dagnats_core.flow.backoff import Backoff, delay_ms, effective
from dagnats_core.flow.model import RetryPolicy, Step


def delays(policy: Backoff, count: int = 5) -> list[int]:
    return [delay_ms(policy, attempt, "run.step") for attempt in range(1, count + 1)]


def test_fixed_delays_stay() -> None:
    assert delays(Backoff(9, "fixed", 1000)) == [1000] * 5


def test_linear_delays_grow_by_the_first() -> None:
    assert delays(Backoff(9, "linear", 1000)) == [1000, 2000, 3000, 4000, 5000]


def test_exponential_delays_double_up_to_the_largest() -> None:
    assert delays(Backoff(9, "exponential", 1000, max_delay_ms=5000)) == [1000, 2000, 4000, 5000, 5000]
    assert delays(Backoff(9, "exponential", 1000, multiplier=1.5), 3) == [1000, 1500, 2250]
    assert delays(Backoff(9, "exponential", 1000, multiplier=1.0), 3) == [1000, 1000, 1000]
    assert delays(Backoff(9, "exponential", 0), 3) == [0, 0, 0]


@pytest.mark.parametrize("strategy", ["linear", "exponential"])
def test_the_last_attempt_of_all_has_a_delay_too(strategy: str) -> None:
    policy = Backoff(limits.ATTEMPTS_MAX, strategy, limits.RETRY_DELAY_MS_MAX, multiplier=1000.0)  # type: ignore[arg-type]
    assert delay_ms(policy, limits.ATTEMPTS_MAX, "s") == limits.RETRY_DELAY_MS_MAX


def test_jitter_takes_away_its_part_at_most_and_depends_on_the_seed_alone() -> None:
    policy = Backoff(9, "fixed", 1000, jitter=0.2)
    drawn = [delay_ms(policy, 1, f"run-{i}.step") for i in range(200)]
    assert min(drawn) >= 800
    assert max(drawn) <= 1000
    assert len(set(drawn)) > 50
    assert drawn == [delay_ms(policy, 1, f"run-{i}.step") for i in range(200)]
    assert delay_ms(policy, 1, "a") != delay_ms(policy, 2, "a")


def test_the_draw_is_the_same_for_ever() -> None:
    assert delay_ms(Backoff(9, "fixed", 1_000_000, jitter=1.0), 1, "run.step") == 528_456


def test_a_steps_own_policy_comes_first_then_the_default_then_the_short_form() -> None:
    own, default = RetryPolicy(max_attempts=2), RetryPolicy(max_attempts=7, initial_delay="2s", max_delay="1m")
    step = Step(id="a", task="t", retries=3)
    assert effective(Step(id="a", task="t", retry=own), default) == Backoff(2, "fixed", 1000)
    assert effective(step, default) == Backoff(7, "fixed", 2000, 60_000)
    assert effective(step, None) == Backoff(4, "fixed", 5000)
    assert effective(Step(id="a", task="t"), None) is None
    assert effective(Step(id="a", task="t", retries=0), None) is None
