"""The run stream in memory, with nats-server's rules: what it checks, what it refuses, what it removes by itself.

It reads the real header blocks. What the engine relies on and this file claims of the server is compared with a real
one in tests/conformance. No time and no chance here: the caller says when a schedule fires.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from dagnats_core import limits
from dagnats_core.bus.errors import ApiError, BatchRefused, StoreFull, WrongSequence
from dagnats_core.bus.message import StoredMessage, time_ms_of
from dagnats_core.bus.publish import OutMessage, PubAck

KNOWN = frozenset(
    {
        "Nats-Expected-Last-Subject-Sequence",
        "Nats-Expected-Last-Subject-Sequence-Subject",
        "Nats-Schedule",
        "Nats-Schedule-Target",
        "Nats-Scheduler",
        "Nats-Schedule-Next",
    }
)


class Rules(NamedTuple):
    """What a header block asks of the server. `expected` None = no check; `due_ms` 0 = no schedule."""

    expected: int | None = None
    expected_on: str = ""
    due_ms: int = 0
    target: str = ""
    purges: str = ""


@lru_cache(4096)
def rules_of(block: bytes) -> Rules:
    """Read a header block. Raises ValueError for a header that this server does not know."""
    headers: dict[str, str] = {}
    for line in block.decode().split("\r\n")[:-1]:
        name, _, value = line.partition(": ")
        if name not in KNOWN or name in headers:
            raise ValueError(f"header {line!r}")
        headers[name] = value
    expected = headers.get("Nats-Expected-Last-Subject-Sequence")
    schedule = headers.get("Nats-Schedule", "")
    if schedule and not schedule.startswith("@at "):
        raise ValueError(f"schedule {schedule!r}")
    purges = headers.get("Nats-Scheduler", "") if headers.get("Nats-Schedule-Next") == "purge" else ""
    return Rules(
        int(expected) if expected is not None else None,
        headers.get("Nats-Expected-Last-Subject-Sequence-Subject", ""),
        time_ms_of(schedule[4:]) if schedule else 0,
        headers.get("Nats-Schedule-Target", ""),
        purges,
    )


class Watcher:
    """What a stream tells of itself."""

    def stored(self, message: StoredMessage) -> None: ...

    def scheduled(self, message: StoredMessage, due_ms: int) -> None: ...

    def removed(self, message: StoredMessage) -> None: ...


class MemoryStream:
    """A stream with `max_msgs_per_subject: 1`, schedules, atomic batches and expected sequences."""

    def __init__(self, now_ms: Callable[[], int], watcher: Watcher) -> None:
        self.seq = 0
        self.full = False
        self.messages: dict[int, StoredMessage] = {}
        self.last: dict[str, StoredMessage] = {}
        self._now_ms = now_ms
        self._watcher = watcher
        self._runs: dict[str, dict[int, StoredMessage]] = {}

    # ---- writing

    def publish(self, messages: Sequence[OutMessage]) -> PubAck:
        """Store one message, or an atomic batch: all of it or nothing. Raises what `bus.publish.Publisher` raises."""
        if self.full:
            raise StoreFull("no room")
        rules = [rules_of(message.headers) for message in messages]
        self._check(messages, rules)
        for message, rule in zip(messages, rules, strict=True):
            self._store(message, rule)
        return PubAck(self.seq, count=len(messages))

    def _check(self, messages: Sequence[OutMessage], rules: Sequence[Rules]) -> None:
        if len(messages) > limits.BATCH_MESSAGES_MAX:
            raise BatchRefused(f"a batch of {len(messages)}", 10199)
        touched: set[str] = set()
        for message, rule in zip(messages, rules, strict=True):
            if rule.expected is not None:
                subject = rule.expected_on or message.subject
                if subject in touched:
                    raise WrongSequence(f"{subject} was written in this batch (10164)")
                standing = self.last.get(subject)
                seq = standing.seq if standing is not None else 0
                if seq != rule.expected:
                    raise WrongSequence(f"{message.subject}: wrong last sequence: {seq} (10071)", seq)
            if rule.due_ms and rule.target in ("", message.subject):
                raise ApiError("message schedule target is invalid", 10190)
            touched.add(message.subject)

    def _store(self, message: OutMessage, rule: Rules) -> StoredMessage:
        if rule.purges:
            self.remove_subject(rule.purges)
        self.remove_subject(message.subject)
        self.seq += 1
        stored = StoredMessage(
            message.subject, self.seq, self._now_ms(), message.data, b"NATS/1.0\r\n" + message.headers
        )
        self.messages[self.seq] = self.last[message.subject] = stored
        run = _run_of(message.subject)
        if run:
            self._runs.setdefault(run, {})[self.seq] = stored
        self._watcher.stored(stored)
        if rule.due_ms:
            self._watcher.scheduled(stored, rule.due_ms)
        return stored

    def fire(self, schedule: StoredMessage) -> None:
        """A schedule is due: its body goes to its target and it is gone. Nothing if it was replaced or purged."""
        if self.last.get(schedule.subject) is not schedule:
            return
        target = schedule.header("Nats-Schedule-Target") or ""
        self.remove(schedule.seq)
        headers = b"Nats-Scheduler: %b\r\nNats-Schedule-Next: purge\r\n" % schedule.subject.encode()
        self._store(OutMessage(target, schedule.data, headers), Rules())

    def remove(self, seq: int) -> None:
        """Delete one message; one that is not there is no error."""
        message = self.messages.pop(seq, None)
        if message is None:
            return
        del self.last[message.subject]
        run = _run_of(message.subject)
        if run:
            of_run = self._runs[run]
            del of_run[seq]
            if not of_run:
                del self._runs[run]
        self._watcher.removed(message)

    def remove_subject(self, subject: str) -> None:
        message = self.last.get(subject)
        if message is not None:
            self.remove(message.seq)

    def purge(self, below: int) -> None:
        """Remove everything with a lower sequence."""
        for seq in [seq for seq in self.messages if seq < below]:
            self.remove(seq)

    # ---- reading

    def run(self, prefix: str, first_seq: int = 0) -> list[StoredMessage]:
        """The messages of the run whose subjects begin with `prefix`, ascending."""
        return [message for message in self._runs.get(prefix, {}).values() if message.seq >= first_seq]

    def inputs(self, partition: int, first_seq: int) -> Iterator[StoredMessage]:
        """The `in` messages of a partition from `first_seq` on, ascending."""
        for message in list(self.messages.values()):
            if message.seq >= first_seq and is_input(message.subject, partition):
                yield message


def is_input(subject: str, partition: int) -> bool:
    tokens = subject.split(".", 6)
    return len(tokens) > 6 and tokens[2] == "run" and tokens[3] == str(partition) and tokens[5] == "in"


def _run_of(subject: str) -> str:
    """The prefix of a run's subjects, empty for a subject of no run."""
    tokens = subject.split(".", 5)
    return ".".join(tokens[:5]) if len(tokens) == 6 and tokens[2] == "run" else ""
