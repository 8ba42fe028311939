"""The graph of steps and dependencies: order, ancestors, cycles. Pure; knows ids only, nothing of what a step is.

A graph is a mapping from each step to the steps it depends on; every dependency is itself a key. A set of steps is an
int with one bit per step (its place in the mapping), so that the ancestors of 1,000 steps cost 1,000 small ints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

Graph = Mapping[str, Sequence[str]]


def dependents_of(graph: Graph) -> dict[str, list[str]]:
    """For each step the steps that depend on it, in the order of the graph."""
    dependents: dict[str, list[str]] = {step: [] for step in graph}
    for step, dependencies in graph.items():
        for dependency in dict.fromkeys(dependencies):
            dependents[dependency].append(step)
    return dependents


def topological_order(graph: Graph) -> list[str]:
    """Each step after its dependencies, else in the order of the graph. Steps on or behind a cycle are left out."""
    dependents = dependents_of(graph)
    missing = {step: len(set(dependencies)) for step, dependencies in graph.items()}
    order = [step for step, count in missing.items() if count == 0]
    for step in order:
        for dependent in dependents[step]:
            missing[dependent] -= 1
            if missing[dependent] == 0:
                order.append(dependent)
    return order


def cycles(graph: Graph) -> list[list[str]]:
    """Cycles that share no step, each as the steps along it: [a, b] = a depends on b and b on a. Empty: acyclic."""
    left = dict.fromkeys(graph)
    for step in topological_order(graph):
        del left[step]
    found: list[list[str]] = []
    while left:
        path: dict[str, int] = {}
        at: str | None = next(iter(left))
        while at is not None and at not in path:
            path[at] = len(path)
            at = next((dependency for dependency in graph[at] if dependency in left), None)
        walked = list(path)
        if at is not None:
            found.append(walked[path[at] :])
        for seen in walked:
            del left[seen]
    return found


class Ancestors:
    """Transitive dependencies of each step that `topological_order` holds: those of others are not known."""

    def __init__(self, graph: Graph) -> None:
        self._bits = {step: 1 << place for place, step in enumerate(graph)}
        self._sets: dict[str, int] = {}
        for step in topological_order(graph):
            ancestors = 0
            for dependency in graph[step]:
                ancestors |= self._sets[dependency] | self._bits[dependency]
            self._sets[step] = ancestors

    def __contains__(self, step: str) -> bool:
        return step in self._sets

    def missing(self, step: str, others: Iterable[str]) -> list[str]:
        """Those of `others` that need not have ended when `step` begins: not among its transitive dependencies."""
        ancestors = self._sets[step]
        return [other for other in others if not ancestors & self._bits.get(other, 0)]
