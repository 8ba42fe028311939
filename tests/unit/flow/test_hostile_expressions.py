"""The worst expressions that could be found: none may take more than a bounded time, or take the process with it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from dagnats_core import limits

SECONDS_MAX = 3.0
"""Of processor time, on a slow machine; on a fast one the worst takes half a second."""
MEGABYTES_MAX = 300

EVALUATE = """
import json, resource, sys, time
from dagnats_core.errors import Invalid
from dagnats_core.flow.expressions import ExpressionFailed, compile_expression
many = 100_000
ten = ["x" * 10] * 18_000
deep = 1
for _ in range(60):
    deep = [deep]
data = {"l": list(range(many)), "t": "a" * 250_000, "ab": "ab" * 125_000, "ten": ten, "deep": deep,
        "m": {f"k{i}": i for i in range(20_000)}}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
result = []
for text in json.load(sys.stdin):
    began = time.process_time()
    try:
        compile_expression(text).evaluate({"input": data})
        outcome = "value"
    except ExpressionFailed as failure:
        outcome = failure.message
    except Invalid as invalid:
        outcome = invalid.message
    result.append([outcome, time.process_time() - began])
json.dump([result, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024], sys.stdout)
"""


def evaluate(texts: list[str]) -> tuple[list[tuple[str, float]], float]:
    """(outcome, seconds) of each expression and the megabytes of all, in a process of its own that must survive."""
    run = subprocess.run(
        [sys.executable, "-c", EVALUATE],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    result: tuple[Any, float] = json.loads(run.stdout)
    return result


WORK = {
    "map over 100k": "input.l.map(x, x + 1)",
    "filter of 100k": "input.l.filter(x, x % 2 == 0)",
    "nested loops": "input.l.exists(x, input.l.exists(y, x + y < 0))",
    "compare lists in a loop": "input.l.all(x, input.l == input.l)",
    "search lists in a loop": "input.l.all(x, -1 in input.l || true)",
    "compare deep lists in a loop": "input.l.all(x, input.deep == input.deep)",
    "make long texts": "input.ten.map(x, input.t + x).size()",
    "add long texts": "+".join(["input.t"] * 30),
    "add long lists": "+".join(["input.l"] * 30),
    "fail in a loop": "input.l.exists(x, input.q.w > 0 || x.z)",
    "search text in a loop": "input.l.all(x, !input.t.contains('" + "a" * 3000 + "b'))",
    "search repeating text in a loop": "input.l.all(x, !input.ab.contains('" + "ab" * 20 + "b'))",
    "an exponential pattern": "input.ab.matches('^(a|b|ab)*c$')",
    "a pattern with many states": "input.ab.matches('(a|b)*a(a|b){20}c')",
    "many patterns": "input.ten.all(x, !x.matches('a'))",
    "unicode patterns": r"input.ten.all(x, !x.matches('\\pL\\pN'))",
    "pairs of pairs": "[[1,1]].map(a,[[a,a]].map(b,[[b,b]].map(c,[[c,c]].map(d,[[d,d]].map(e,[[e,e]].map(f,[f,f]))))))",
    "one list a hundred times": "[" + ",".join(["input.t"] * 100) + "]",
    "a wide literal in a loop": "input.l.map(x, {" + ",".join(f"'k{i}': 1" for i in range(300)) + "})",
    "the keys of a map": "input.m.map(k, input.m[k])",
    "a wide condition in a loop": "input.l.all(x, " + "&&".join(["x >= 0"] * 350) + ")",
}
NESTING = {
    "parentheses": "(" * 2000 + "1" + ")" * 2000,
    "lists": "[" * 2000 + "1" + "]" * 2000,
    "maps": "{'a':" * 700 + "1" + "}" * 700,
    "signs": "-" * 4000 + "1",
    "negations": "!" * 4000 + "true",
    "sums": "+".join(["1"] * 2000),
    "conditions": "||".join(["false"] * 500),
    "choices": "true?1:" * 500 + "1",
    "fields": "input" + ".a" * 2000,
    "indexes": "input" + "[0]" * 1300,
    "calls": "size(" * 700 + "1" + ")" * 700,
    "macros": "input.l.map(x," * 250 + "1" + ")" * 250,
    "quotes": "'" * 4000,
    "hashes": "#" * 4000,
    "nothing": "\x00" * 4000,
}


@pytest.fixture(scope="module")
def measured() -> tuple[dict[str, tuple[str, float]], float]:
    cases = {**WORK, **NESTING}
    outcomes, megabytes = evaluate(list(cases.values()))
    return dict(zip(cases, outcomes, strict=True)), megabytes


@pytest.mark.parametrize("case", [*WORK, *NESTING])
def test_it_takes_a_bounded_time(case: str, measured: tuple[dict[str, tuple[str, float]], float]) -> None:
    outcome, seconds = measured[0][case]
    assert seconds < SECONDS_MAX, outcome


def test_it_takes_bounded_memory(measured: tuple[dict[str, tuple[str, float]], float]) -> None:
    assert measured[1] < MEGABYTES_MAX


def test_honest_work_on_a_large_value_is_done(measured: tuple[dict[str, tuple[str, float]], float]) -> None:
    done = ("map over 100k", "filter of 100k", "the keys of a map", "conditions", "an exponential pattern")
    assert {case: measured[0][case][0] for case in done} == dict.fromkeys(done, "value")


def test_work_without_bound_is_stopped(measured: tuple[dict[str, tuple[str, float]], float]) -> None:
    for case in ("nested loops", "compare lists in a loop", "make long texts", "fail in a loop"):
        assert measured[0][case][0].endswith(f"more than {limits.EXPRESSION_COST_MAX} units")
