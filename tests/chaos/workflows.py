"""What runs while everything is being killed: a chain, a fan with a join, retries with timers, slow steps."""

from __future__ import annotations

from dagnats import RetryPolicy, Workflow

TASK = "chaos.work"
RETRY = RetryPolicy(max_attempts=50, strategy="fixed", initial_delay="200ms")
SLOW = {"slow_ms": "3000"}
"""Handlers of such a step take up to so long: longer than it takes to notice that an owner is gone."""


def chain() -> Workflow:
    workflow = Workflow("chaos-chain", default_retry=RETRY)
    first = workflow.step("a", task=TASK)
    second = workflow.step("b", task=TASK, after=[first])
    workflow.step("c", task=TASK, after=[second])
    return workflow


def slow() -> Workflow:
    workflow = Workflow("chaos-slow", default_retry=RETRY)
    first = workflow.step("a", task=TASK)
    second = workflow.step("slow", task=TASK, after=[first], metadata=SLOW)
    workflow.step("c", task=TASK, after=[second])
    return workflow


def fan() -> Workflow:
    workflow = Workflow("chaos-fan", default_retry=RETRY)
    root = workflow.step("root", task=TASK)
    branches = [workflow.step(f"branch-{i}", task=TASK, after=[root]) for i in range(3)]
    workflow.step(
        "join", task=TASK, after=branches, input={"parts": "[steps['branch-0'].output, steps['branch-2'].output]"}
    )
    return workflow


def flaky() -> Workflow:
    """Its first attempt fails, so that every run has a timer."""
    workflow = Workflow("chaos-flaky", default_retry=RETRY, timeout="10m")
    first = workflow.step("fails-once", task=TASK, metadata={"fail_attempts": "1"}, timeout="60s")
    workflow.step("then", task=TASK, after=[first])
    return workflow


WORKFLOWS = {workflow.name: workflow for workflow in (chain(), slow(), fan(), flaky())}
DEPENDENCIES: dict[str, dict[str, list[str]]] = {
    name: {step["id"]: list(step.get("depends_on", [])) for step in workflow.definition()["steps"]}
    for name, workflow in WORKFLOWS.items()
}
