"""What docs/definitions.md shows must be valid, and its figures must be those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dagnats import workflow as builder
from dagnats_core import limits
from dagnats_core.flow.durations import parse_duration
from dagnats_core.flow.model import Definition, RetryPolicy, SkipIf, Step
from dagnats_core.flow.parse import parse_text
from dagnats_core.flow.validate import validate

TEXT = (Path(__file__).parents[3] / "docs" / "definitions.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("text", [text for kind, text in BLOCKS if kind == "yaml"])
def test_each_yaml_example_is_valid(text: str) -> None:
    assert validate(parse_text(text.encode(), "yaml"))[1:] == ([], [])


def test_the_python_example_is_valid() -> None:
    (text,) = [text for kind, text in BLOCKS if kind == "python"]
    scope = {"__name__": "example"}
    exec(text, scope)
    made = scope["wf"]
    assert isinstance(made, builder.Workflow)
    assert len(made.definition()["steps"]) == 5


@pytest.mark.parametrize("kind", [Definition, Step, RetryPolicy, SkipIf])
def test_each_field_is_explained(kind: type) -> None:
    missing = [field for field in kind.__struct_fields__ if f"`{field}`" not in TEXT and field not in TEXT]
    assert not missing


def test_each_example_of_a_duration_is_one() -> None:
    section = TEXT[TEXT.index("## Durations") : TEXT.index("## Schemas")]
    for row in re.findall(r"^\| (?:short|ISO 8601) \| (.*?)[;|]", section, re.MULTILINE):
        assert all(parse_duration(example) for example in re.findall(r"`([^`]+)`", row))


@pytest.mark.parametrize(
    "figure",
    [
        f"{limits.DEFINITION_BYTES_MAX // limits.KIB} KiB, {limits.STEPS_MAX:,} steps, {limits.JSON_DEPTH_MAX} levels",
        f"{limits.EXPRESSIONS_MAX:,} expressions",
        f"{limits.EXPRESSION_BYTES_MAX // limits.KIB} KiB, 32 levels",
        f"{limits.EXPRESSION_VALUE_BYTES_MAX // limits.MIB} MiB each",
        f"{limits.EXPRESSION_COST_MAX:,} units",
        f"{limits.EXPRESSION_PATTERN_BYTES_MAX} bytes, and about {limits.EXPRESSION_PATTERN_WEIGHT_MAX:,}",
        f"{limits.SCHEMA_BYTES_MAX // limits.KIB} KiB; applied to values of up to 8 MiB",
        f"problems told at once | {limits.PROBLEMS_MAX} ",
        f"1 to {limits.ATTEMPTS_MAX:,}",
        f"at most {limits.METADATA_ENTRIES_MAX} entries and {limits.METADATA_BYTES_MAX // limits.KIB} KiB",
    ],
)
def test_its_figures_are_those_of_the_code(figure: str) -> None:
    assert figure in TEXT
