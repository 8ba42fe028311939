"""What the handlers of one API process stand on: its connection, its readers and writers. No endpoint here."""

from __future__ import annotations

import time
from dataclasses import dataclass

from dagnats_core.bus.connection import Connection
from dagnats_core.bus.kv import Bucket
from dagnats_core.bus.publish import Publisher
from dagnats_core.bus.setup import SiteInfo
from dagnats_core.bus.subjects import Subjects
from dagnats_core.bus.topology import Topology
from dagnats_core.engine.definitions import Definitions
from dagnats_core.engine.payloads import Payloads
from dagnats_micro.index import Index
from dagnats_micro.once import FirstAnswers
from dagnats_micro.runner import Pool
from dagnats_micro.runs import Runs
from dagnats_micro.starter import Starter
from dagnats_micro.watch import Watches


@dataclass(slots=True)
class Api:
    """The parts, made and started by `service.ApiService`."""

    connection: Connection
    site: SiteInfo
    topology: Topology
    subjects: Subjects
    publisher: Publisher
    definitions: Definitions
    payloads: Payloads
    index: Index
    runs: Runs
    starter: Starter
    watches: Watches
    pool: Pool
    first_answers: FirstAnswers
    workers: Bucket
    leases: Bucket
    role: str
    started_at: int
    http_url: str | None = None


def now_ms() -> int:
    return time.time_ns() // 1_000_000
