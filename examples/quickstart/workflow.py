"""The quick start's workflow and the values that its steps hand on.

split -> count-0, count-1, count-2 (side by side) -> merge -> report
"""

from __future__ import annotations

import msgspec

from dagnats import RetryPolicy, Workflow

PARTS = 3


class Source(msgspec.Struct):
    """The run's input: a text file, as the worker sees it, and where the chart shall go."""

    path: str
    chart: str | None = None


class Split(msgspec.Struct):
    """The text, cut into parts of about the same size."""

    name: str
    parts: list[str]


class Part(msgspec.Struct):
    part: str


class Count(msgspec.Struct):
    """What one part holds: lines, words, and how often each word stands in it."""

    lines: int
    words: int
    frequency: dict[str, int]


class Word(msgspec.Struct):
    """A word, and how often it stands in each part."""

    word: str
    counts: list[int]


class Summary(msgspec.Struct):
    lines: int
    words: int
    different: int
    top: list[Word]


class ReportInput(msgspec.Struct):
    source: Source
    name: str
    summary: Summary


class Report(msgspec.Struct):
    """The run's output."""

    name: str
    lines: int
    words: int
    different: int
    top: list[Word]
    chart: str


wf = Workflow("quickstart", default_retry=RetryPolicy(max_attempts=3, initial_delay="200ms"))
split = wf.step("split", task="quickstart.split", timeout="30s")
counts = [
    wf.step(
        f"count-{index}",
        task="quickstart.count",
        after=[split],
        input={"part": f"steps.split.output.parts[{index}]"},
        timeout="30s",
    )
    for index in range(PARTS)
]
merge = wf.step("merge", task="quickstart.merge", after=counts)
wf.step(
    "report",
    task="quickstart.report",
    after=[split, merge],
    input={"source": "input", "name": "steps.split.output.name", "summary": "steps.merge.output"},
)
