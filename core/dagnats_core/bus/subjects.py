"""Subjects of a site: built here and nowhere else, from names that were checked before. No IO.

`site` owns everything under `dagnats.<site>.` (docs/wire.md). A task token is the task's name with dots
replaced by `~`, and `@<group>` appended when a step names a worker group: no user name can hold either
character.
"""

from __future__ import annotations

from typing import NamedTuple


def task_token(task: str, group: str = "") -> str:
    token = task.replace(".", "~")
    return f"{token}@{group}" if group else token


def task_of_token(token: str) -> tuple[str, str]:
    """(task, group) of a task token."""
    task, _, group = token.partition("@")
    return task.replace("~", "."), group


class Subjects(NamedTuple):
    """Builds the subjects of one site."""

    site: str

    @property
    def prefix(self) -> str:
        return f"dagnats.{self.site}"

    # -- control plane
    def api(self, noun: str, verb: str) -> str:
        return f"dagnats.{self.site}.api.{noun}.{verb}"

    # -- run log
    def run(self, partition: int, run_id: str) -> str:
        """Prefix of all messages of one run."""
        return f"dagnats.{self.site}.run.{partition}.{run_id}"

    def run_all(self, partition: int, run_id: str) -> str:
        return f"dagnats.{self.site}.run.{partition}.{run_id}.>"

    def start(self, partition: int, run_id: str) -> str:
        return f"dagnats.{self.site}.run.{partition}.{run_id}.in.start"

    def cancel_input(self, partition: int, run_id: str) -> str:
        return f"dagnats.{self.site}.run.{partition}.{run_id}.in.cancel"

    def timer_input(self, partition: int, run_id: str, key: str) -> str:
        return f"dagnats.{self.site}.run.{partition}.{run_id}.in.timer.{key}"

    def timer(self, partition: int, run_id: str) -> str:
        """The schedule message of a run: one a run, replaced by publishing again."""
        return f"dagnats.{self.site}.run.{partition}.{run_id}.timer"

    def task(self, partition: int, run_id: str, token: str, n: int) -> str:
        return f"dagnats.{self.site}.run.{partition}.{run_id}.out.task.{token}.{n}"

    def events(self, partition: int, run_id: str, n: int) -> str:
        return f"dagnats.{self.site}.run.{partition}.{run_id}.out.events.{n}"

    def snapshot(self, partition: int, run_id: str, n: int) -> str:
        return f"dagnats.{self.site}.run.{partition}.{run_id}.out.snapshot.{n}"

    def parked(self, partition: int, run_id: str, n: int) -> str:
        return f"dagnats.{self.site}.run.{partition}.{run_id}.out.parked.{n}"

    def ended(self, partition: int, run_id: str) -> str:
        return f"dagnats.{self.site}.run.{partition}.{run_id}.out.ended"

    def inputs_of(self, partition: int) -> str:
        """Filter: what was asked of the runs of a partition."""
        return f"dagnats.{self.site}.run.{partition}.*.in.>"

    def tasks_of(self, token: str) -> str:
        """Filter: the tasks of one type (and group), in any partition."""
        return f"dagnats.{self.site}.run.*.*.out.task.{token}.*"

    def all_starts(self) -> str:
        return f"dagnats.{self.site}.run.*.*.in.start"

    def all_ended(self) -> str:
        return f"dagnats.{self.site}.run.*.*.out.ended"

    def all_parked(self) -> str:
        return f"dagnats.{self.site}.run.*.*.out.parked.*"

    def own(self, partition: int) -> str:
        return f"dagnats.{self.site}.own.{partition}"

    def floor(self, partition: int) -> str:
        return f"dagnats.{self.site}.floor.{partition}"

    # -- workers
    def report(self, partition: int, token: str, run_id: str, step: str) -> str:
        return f"dagnats.{self.site}.report.{partition}.{token}.{run_id}.{step}"

    def reports_of(self, partition: int) -> str:
        return f"dagnats.{self.site}.report.{partition}.>"

    def cancel_notice(self, token: str) -> str:
        return f"dagnats.{self.site}.cancel.{token}"

    def progress(self, token: str, run_id: str, step: str) -> str:
        return f"dagnats.{self.site}.progress.{token}.{run_id}.{step}"

    def progress_of_run(self, run_id: str) -> str:
        return f"dagnats.{self.site}.progress.*.{run_id}.*"

    def payload(self, payload_id: str, part: int | str = ">") -> str:
        """One part of a payload, or the filter of all its parts."""
        return f"dagnats.{self.site}.payload.{payload_id}.{part}"

    def all_payloads(self) -> str:
        return f"dagnats.{self.site}.payload.*.*"

    def archive(self, partition: int | str) -> str:
        return f"dagnats.{self.site}.archive.{partition}"


class RunSubject(NamedTuple):
    """A subject of the run log, taken apart: kind is in.start, in.cancel, out.task, out.events, …, timer."""

    partition: int
    run_id: str
    kind: str
    rest: tuple[str, ...]


def parse_run_subject(subject: str) -> RunSubject:
    """Take a run-log subject apart. Raises ValueError for anything else."""
    tokens = subject.split(".")
    if len(tokens) < 6 or tokens[0] != "dagnats" or tokens[2] != "run":
        raise ValueError(f"not a subject of the run log: {subject[:200]}")
    if tokens[5] == "timer":
        return RunSubject(int(tokens[3]), tokens[4], "timer", ())
    if len(tokens) < 7:
        raise ValueError(f"not a subject of the run log: {subject[:200]}")
    return RunSubject(int(tokens[3]), tokens[4], f"{tokens[5]}.{tokens[6]}", tuple(tokens[7:]))
