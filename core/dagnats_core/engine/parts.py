"""What every partition of an engine shares: its ports, its clock, its source of randomness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dagnats_core.bus.subjects import Subjects
from dagnats_core.engine.ports import Clock, DefinitionsPort, LogPort, PayloadsPort, RequestsPort


@dataclass(frozen=True, slots=True)
class Parts:
    """`entropy(n)` gives n random bytes; `runs_max` bounds the runs that one partition keeps in memory."""

    engine_id: str
    subjects: Subjects
    log: LogPort
    definitions: DefinitionsPort
    payloads: PayloadsPort
    requests: RequestsPort
    now_ms: Clock
    entropy: Callable[[int], bytes]
    runs_max: int
