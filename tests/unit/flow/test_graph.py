"""Order, ancestors and cycles of small graphs."""

from __future__ import annotations

from dagnats_core.flow.graph import Ancestors, cycles, dependents_of, topological_order

DIAMOND = {"d": ["b", "c"], "b": ["a"], "c": ["a"], "a": []}


def test_a_step_comes_after_its_dependencies() -> None:
    assert topological_order(DIAMOND) == ["a", "b", "c", "d"]


def test_dependents_are_the_other_direction() -> None:
    assert dependents_of(DIAMOND) == {"d": [], "b": ["d"], "c": ["d"], "a": ["b", "c"]}


def test_an_acyclic_graph_has_no_cycles() -> None:
    assert cycles(DIAMOND) == []


def test_each_cycle_is_found_once_and_what_is_behind_it_is_none() -> None:
    graph = {"a": ["b"], "b": ["c"], "c": ["b"], "x": ["x"], "free": []}
    found = [sorted(cycle) for cycle in cycles(graph)]
    assert sorted(found) == [["b", "c"], ["x"]]
    assert topological_order(graph) == ["free"]


def test_two_cycles_that_share_a_step_are_found_as_one() -> None:
    graph = {"a": ["b", "c"], "b": ["a"], "c": ["a"]}
    assert len(cycles(graph)) == 1


def test_ancestors_are_transitive() -> None:
    ancestors = Ancestors({**DIAMOND, "e": []})
    assert ancestors.missing("d", ["a", "b", "c", "e", "d"]) == ["e", "d"]
    assert ancestors.missing("b", ["a", "c"]) == ["c"]


def test_nothing_is_known_of_steps_on_or_behind_a_cycle() -> None:
    ancestors = Ancestors({"a": ["a"], "b": ["a"], "c": []})
    assert [step for step in "abc" if step in ancestors] == ["c"]
