"""How a run stands, against an obvious, slow oracle that walks the whole graph again after everything that happens."""

from __future__ import annotations

from hypothesis import given, settings

from dagnats_core.flow.model import Definition
from dagnats_core.flow.plan import Plan
from tests.property.run_play import Play, definitions, moves


class Oracle:
    """Statuses by step, worked out in the plainest way. No deadlines; retries follow at once."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.status = dict.fromkeys(plan.steps, "pending")
        self.attempts = dict.fromkeys(plan.steps, 0)
        self.value: dict[str, int] = {}
        self.run = "running"
        self._settle()

    def completed(self, step: str, value: int) -> None:
        self.status[step], self.value[step] = "completed", value
        self._settle()

    def failed(self, step: str, retryable: bool) -> None:
        policy = self.plan.steps[step].retry
        if retryable and policy is not None and self.attempts[step] < policy.max_attempts:
            self.attempts[step] += 1
        else:
            self.status[step] = "failed"
            self._end("failed")

    def cancelled(self) -> None:
        self._end("cancelled")

    def _settle(self) -> None:
        """Hand out or skip what may go on, again and again until nothing changes."""
        moved = True
        while moved and self.run == "running":
            moved = False
            for step, plan in self.plan.steps.items():
                ready = all(self.status[d] in ("completed", "skipped") for d in plan.depends_on)
                if self.status[step] != "pending" or not ready:
                    continue
                moved = True
                if (plan.when or plan.template) and plan.depends_on[0] not in self.value:
                    self.status[step] = "failed"  # its expression reads the output of a step that was skipped
                    self._end("failed")
                    return
                if plan.when and self.value[plan.depends_on[0]] <= 1:
                    self.status[step] = "skipped"
                else:
                    self.status[step] = "live"
                    self.attempts[step] += 1
        if self.run == "running" and all(status in ("completed", "skipped") for status in self.status.values()):
            self.run = "completed"

    def _end(self, status: str) -> None:
        self.run = status
        for step, stands in self.status.items():
            if stands in ("pending", "live"):
                self.status[step] = "cancelled"


@settings(max_examples=300, deadline=None)
@given(definitions(timed=False), moves("complete", "complete", "complete", "fail", "retry", "cancel"))
def test_a_run_stands_as_the_oracle_says(definition: Definition, chosen: list[tuple[str, int, int]]) -> None:
    play = Play(definition)
    oracle = Oracle(play.plan)
    for kind, which, value in chosen:
        live = [step_id for step_id, step in play.state.steps.items() if step.status == "queued"]
        if play.state.ended or (not live and kind != "cancel"):
            break
        play.move((kind, which, value))
        if kind == "complete":
            oracle.completed(live[which % len(live)], value)
        elif kind == "cancel":
            oracle.cancelled()
        else:
            oracle.failed(live[which % len(live)], retryable=kind == "retry")
        told = {step: "live" if s.status == "queued" else s.status for step, s in play.state.steps.items()}
        if oracle.run == "failed" and play.state.error is not None and play.state.error.code == "expression":
            # Which of several steps fails first when expressions fail is the engine's choice; the run's end is not.
            assert play.state.status == "failed"
            break
        assert (play.state.status, told) == (oracle.run, oracle.status)
        assert {step: s.attempt for step, s in play.state.steps.items()} == oracle.attempts
