"""How long to wait before the next attempt. Pure: the same policy, attempt and seed give the same delay everywhere."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from dagnats_core import limits
from dagnats_core.flow.durations import parse_duration
from dagnats_core.flow.model import RetryPolicy, Step, Strategy

RETRIES_DELAY_MS = 5 * limits.SECOND_MS
"""The fixed delay of the short form `retries: N`."""


class Backoff(NamedTuple):
    """A retry policy as the engine uses it: delays in ms, `max_attempts` in executions."""

    max_attempts: int
    strategy: Strategy = "fixed"
    initial_delay_ms: int = limits.SECOND_MS
    max_delay_ms: int = limits.RETRY_DELAY_MS_MAX
    multiplier: float = 2.0
    jitter: float = 0.0


def effective(step: Step, default_retry: RetryPolicy | None) -> Backoff | None:
    """The policy of a step: its `retry`, else the workflow's `default_retry`, else its `retries`, else none."""
    policy = step.retry or default_retry
    if policy is None:
        if not step.retries:
            return None
        return Backoff(step.retries + 1, "fixed", RETRIES_DELAY_MS)
    return Backoff(
        policy.max_attempts,
        policy.strategy,
        parse_duration(policy.initial_delay),
        parse_duration(policy.max_delay) if policy.max_delay else limits.RETRY_DELAY_MS_MAX,
        policy.multiplier,
        policy.jitter,
    )


def delay_ms(policy: Backoff, attempt: int, seed: str) -> int:
    """Milliseconds from the end of the failed attempt (1, 2, …) to the next one: 0 to `policy.max_delay_ms`.

    fixed: initial_delay. linear: initial_delay x attempt. exponential: initial_delay x multiplier^(attempt - 1).
    Jitter then takes away up to its part of the delay, by a hash of `seed` and attempt.
    """
    delay = min(_without_jitter(policy, attempt), policy.max_delay_ms)
    if policy.jitter:
        delay *= 1 - policy.jitter * _fraction(f"{seed}.{attempt}")
    return round(delay)


def _without_jitter(policy: Backoff, attempt: int) -> float:
    delay = float(policy.initial_delay_ms)
    if policy.strategy == "linear":
        return delay * attempt
    if policy.strategy == "exponential" and policy.multiplier > 1:
        # Multiplied step by step: `pow` may differ in its last digit from one platform to the next.
        for _ in range(attempt - 1):
            if delay >= policy.max_delay_ms or delay == 0:
                break
            delay *= policy.multiplier
    return delay


def _fraction(seed: str) -> float:
    """0 <= x < 1, evenly spread over seeds."""
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:6], "big") / (1 << 48)
