"""What a process that serves a front door needs of core to run: lifecycle, logs, connection. Only names."""

from dagnats_core.bus.connection import Connection as Connection
from dagnats_core.bus.connection import ConnectOptions as ConnectOptions
from dagnats_core.bus.connection import connect as connect
from dagnats_core.lifecycle import ServiceBase as ServiceBase
from dagnats_core.lifecycle import Stack as Stack
from dagnats_core.lifecycle import run as run
from dagnats_core.telemetry.logs import LogFormat as LogFormat
from dagnats_core.telemetry.logs import configure_logs as configure_logs
