"""Laws of definitions: nothing raises, the canonical text is a fixed point, order and delays keep their rules."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dagnats_core import limits
from dagnats_core.errors import DagNatsError
from dagnats_core.flow.backoff import Backoff, delay_ms
from dagnats_core.flow.canonical import canonical, load
from dagnats_core.flow.durations import format_duration, parse_duration
from dagnats_core.flow.graph import Ancestors, cycles, topological_order
from dagnats_core.flow.model import Definition, RetryPolicy, SkipIf, Step
from dagnats_core.flow.parse import parse_text
from dagnats_core.flow.plan import compile_plan
from dagnats_core.flow.validate import validate


def fields(kind: type[msgspec.Struct]) -> list[str]:
    return list(kind.__struct_fields__)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=3),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), part, max_size=3),
    max_leaves=10,
)
FIELDS = [*fields(Definition), *fields(Step), *fields(RetryPolicy), *fields(SkipIf)]
nearly = st.recursive(
    anything | st.sampled_from(["a", "b", "normal", "30s", "fixed", "input.x", "steps.a.output", 1, True]),
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.sampled_from(FIELDS), part, max_size=8),
    max_leaves=30,
)


@settings(max_examples=300, deadline=None)
@given(nearly | st.fixed_dictionaries({"name": nearly, "steps": st.lists(nearly, max_size=3)}))
def test_any_data_is_either_a_definition_or_has_problems(data: Any) -> None:
    definition, problems, _ = validate(data)
    assert (definition is None) == bool(problems)
    if definition is not None:
        compile_plan(definition)


ids = st.lists(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,6}", fullmatch=True), min_size=1, max_size=8, unique=True)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats(allow_nan=False, allow_infinity=False),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text("abé", max_size=3), part, max_size=3),
    max_leaves=5,
)
durations = st.integers(1, 10**9).map(format_duration) | st.integers(1, 10**9).map(lambda ms: ms * 1_000_000)
retries = st.fixed_dictionaries(
    {"max_attempts": st.integers(1, 100)},
    optional={
        "strategy": st.sampled_from(["fixed", "linear", "exponential"]),
        "initial_delay": st.integers(0, 1000).map(format_duration),
        "max_delay": st.integers(1000, 10**7).map(format_duration),
        "multiplier": st.sampled_from([1, 2, 2.0, 1.5]),
        "jitter": st.sampled_from([0, 0.5, 1]),
    },
)


@st.composite
def definitions(draw: st.DrawFn) -> dict[str, Any]:
    steps = []
    before: list[str] = []
    for step_id in draw(ids):
        step: dict[str, Any] = {"id": step_id, "task": "t.x"}
        if before and draw(st.booleans()):
            step["depends_on"] = draw(st.lists(st.sampled_from(before), unique=True, max_size=3))
            if step["depends_on"]:
                step["when"] = f'steps["{step["depends_on"][0]}"].output != null'
        step |= draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "input": json_values,
                    "timeout": durations,
                    "retry": retries,
                    "metadata": st.dictionaries(st.text("ab é", max_size=3), st.text("xyz", max_size=3), max_size=2),
                },
            )
        )
        steps.append(step)
        before.append(step_id)
    extra = st.fixed_dictionaries(
        {}, optional={"timeout": durations, "default_retry": retries, "version": st.text("1.é")}
    )
    return {"name": "w", "steps": draw(st.permutations(steps)), **draw(extra)}


@settings(max_examples=150, deadline=None)
@given(definitions())
def test_yaml_json_and_the_canonical_text_itself_give_the_same_bytes(data: dict[str, Any]) -> None:
    definition, problems, _ = validate(data)
    assert problems == []
    assert definition is not None
    content = canonical(definition)
    assert load(content) == definition
    shuffled = dict(reversed(data.items()))
    as_yaml = yaml.dump(shuffled, Dumper=yaml.CSafeDumper, allow_unicode=True, default_flow_style=None).encode()
    for parsed in (
        parse_text(content),
        parse_text(json.dumps(shuffled, indent=1).encode(), "json"),
        parse_text(as_yaml.replace(b"e+", b"E+"), "yaml"),
    ):
        again = validate(parsed)[0]
        assert again is not None
        assert canonical(again) == content


@given(st.binary(max_size=200) | st.text("{}[]:,-\"'\n &*!|>a1#%@", max_size=60).map(str.encode))
def test_parsing_any_bytes_gives_data_or_an_error_of_ours(text: bytes) -> None:
    with contextlib.suppress(DagNatsError):
        json.dumps(parse_text(text))


@given(st.integers(0, limits.DURATION_MS_MAX))
def test_the_short_text_of_a_duration_is_read_back(ms: int) -> None:
    text = format_duration(ms)
    assert parse_duration(text) == ms
    assert format_duration(parse_duration(text)) == text


@given(st.text(max_size=20) | st.text("PT0123456789.dhmsnuwWDHMS", max_size=12) | st.integers())
def test_any_duration_is_in_bounds_or_refused(value: str | int) -> None:
    with contextlib.suppress(DagNatsError):
        assert 0 <= parse_duration(value) <= limits.DURATION_MS_MAX


graphs = st.integers(1, 12).flatmap(
    lambda n: st.fixed_dictionaries({str(i): st.lists(st.integers(0, n - 1).map(str), max_size=3) for i in range(n)})
)


def reachable(graph: dict[str, list[str]], step: str) -> set[str]:
    found: set[str] = set()
    waiting = list(graph[step])
    while waiting:
        at = waiting.pop()
        if at not in found:
            found.add(at)
            waiting += graph[at]
    return found


@given(graphs)
def test_order_cycles_and_ancestors_agree_with_the_obvious(graph: dict[str, list[str]]) -> None:
    order = topological_order(graph)
    on_or_behind = {step for step in graph if any(s in reachable(graph, s) for s in {step, *reachable(graph, step)})}
    assert set(order) == set(graph) - on_or_behind
    assert all(order.index(before) < order.index(step) for step in order for before in graph[step])
    found = cycles(graph)
    assert bool(found) == bool(on_or_behind)
    for cycle in found:
        assert all(after in graph[step] for step, after in zip(cycle, [*cycle[1:], cycle[0]], strict=True))
    ancestors = Ancestors(graph)
    for step in order:
        assert set(graph) - set(ancestors.missing(step, graph)) == reachable(graph, step)


policies = st.builds(
    Backoff,
    max_attempts=st.integers(1, limits.ATTEMPTS_MAX),
    strategy=st.sampled_from(["fixed", "linear", "exponential"]),
    initial_delay_ms=st.integers(0, limits.RETRY_DELAY_MS_MAX),
    max_delay_ms=st.integers(0, limits.RETRY_DELAY_MS_MAX),
    multiplier=st.floats(1, limits.RETRY_MULTIPLIER_MAX),
    jitter=st.floats(0, 1),
)


@settings(deadline=None)
@given(policies, st.integers(1, limits.ATTEMPTS_MAX), st.text(max_size=10))
def test_a_delay_stays_in_its_bounds_and_never_shrinks_without_jitter(policy: Backoff, attempt: int, seed: str) -> None:
    plain = delay_ms(policy._replace(jitter=0.0), attempt, seed)
    drawn = delay_ms(policy, attempt, seed)
    assert 0 <= plain <= policy.max_delay_ms
    assert plain * (1 - policy.jitter) - 1 <= drawn <= plain
    assert drawn == delay_ms(policy, attempt, seed)
    assert plain <= delay_ms(policy._replace(jitter=0.0), attempt + 1, seed)
