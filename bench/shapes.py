"""The workflows that are measured."""

from __future__ import annotations

from typing import NamedTuple

from dagnats import Workflow


class Shape(NamedTuple):
    name: str
    workflow: Workflow
    steps: int


def _chain(name: str, length: int) -> Workflow:
    workflow = Workflow(name)
    after = []
    for i in range(length):
        after = [workflow.step(f"s{i}", task="bench.echo", after=after)]
    return workflow


def _fanout(name: str, width: int) -> Workflow:
    workflow = Workflow(name)
    root = workflow.step("root", task="bench.echo")
    branches = [workflow.step(f"b{i}", task="bench.echo", after=[root]) for i in range(width)]
    workflow.step("join", task="bench.count", after=branches)
    return workflow


FANOUT = 100
SHAPES = {
    "chain": Shape("chain", _chain("bench-chain", 3), 3),
    "single": Shape("single", _chain("bench-single", 1), 1),
    "fanout": Shape("fanout", _fanout("bench-fanout", FANOUT), FANOUT + 2),
}
