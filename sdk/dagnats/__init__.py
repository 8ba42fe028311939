"""DagNats for Python: define workflows, do their tasks, start and watch their runs.

    from dagnats import Client, Context, Worker, Workflow

Names are imported when they are first used, so that a program pays only for the part that it needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagnats.client import Client as Client
    from dagnats.runs import RunCancelled as RunCancelled
    from dagnats.runs import RunFailed as RunFailed
    from dagnats.runs import RunHandle as RunHandle
    from dagnats.worker.context import Context as Context
    from dagnats.worker.outcomes import Fail as Fail
    from dagnats.worker.outcomes import Retry as Retry
    from dagnats.worker.worker import Worker as Worker
    from dagnats.workflow import RetryPolicy as RetryPolicy
    from dagnats.workflow import Workflow as Workflow
    from dagnats_core import __version__ as __version__
    from dagnats_core.errors import Conflict as Conflict
    from dagnats_core.errors import DagNatsError as DagNatsError
    from dagnats_core.errors import Invalid as Invalid
    from dagnats_core.errors import NotFound as NotFound
    from dagnats_core.errors import TimedOut as TimedOut
    from dagnats_core.errors import Unavailable as Unavailable

_MODULES = {
    "Client": "dagnats.client",
    "Conflict": "dagnats_core.errors",
    "Context": "dagnats.worker.context",
    "DagNatsError": "dagnats_core.errors",
    "Fail": "dagnats.worker.outcomes",
    "Invalid": "dagnats_core.errors",
    "NotFound": "dagnats_core.errors",
    "Retry": "dagnats.worker.outcomes",
    "RetryPolicy": "dagnats.workflow",
    "RunCancelled": "dagnats.runs",
    "RunFailed": "dagnats.runs",
    "RunHandle": "dagnats.runs",
    "TimedOut": "dagnats_core.errors",
    "Unavailable": "dagnats_core.errors",
    "Worker": "dagnats.worker.worker",
    "Workflow": "dagnats.workflow",
    "__version__": "dagnats_core",
}

__all__ = [
    "Client",
    "Conflict",
    "Context",
    "DagNatsError",
    "Fail",
    "Invalid",
    "NotFound",
    "Retry",
    "RetryPolicy",
    "RunCancelled",
    "RunFailed",
    "RunHandle",
    "TimedOut",
    "Unavailable",
    "Worker",
    "Workflow",
    "__version__",
]


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'dagnats' has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
