"""How log lines look and where they go: structlog and the standard library's logging, one way out.

Standard output is for results, so every log line goes to standard error. A line has `timestamp` (RFC 3339,
UTC), `level`, `logger`, `event` (a constant text; what varies stands in fields of its own), those fields,
and what `structlog.contextvars` hold. Secrets are hidden here, after everything else, so that no caller has
to think of it.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from typing import Any, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor

from dagnats_core.telemetry.redact import redact

_FIRST_KEYS = ("timestamp", "level", "logger", "event")
_LEVEL_NUMBERS = (logging.CRITICAL, logging.ERROR, logging.WARNING, logging.INFO)


class LogFormat(StrEnum):
    """`auto` is `console` on a terminal and `json` elsewhere."""

    AUTO = "auto"
    CONSOLE = "console"
    JSON = "json"


class LogLevel(StrEnum):
    """The least level that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def configure_logs(
    log_format: LogFormat = LogFormat.AUTO, level: LogLevel = LogLevel.INFO, stream: TextIO | None = None
) -> None:
    """Set up all logging of this process, to `stream` or standard error. A program calls it once, first."""
    level_number = logging.getLevelNamesMapping()[level.name]
    _configure_structlog(log_format, level_number, sys.stderr if stream is None else stream)
    root = logging.getLogger()
    root.handlers = [_FromStandardLibrary()]
    root.setLevel(level_number)


def log_warnings_only() -> None:
    """For a library inside somebody's program: unless the program set up structlog, whose own default is to print
    everything to standard output, warnings go to standard error and all else is left out.
    """
    if not structlog.is_configured():
        _configure_structlog(LogFormat.AUTO, logging.WARNING, sys.stderr)


def _configure_structlog(log_format: LogFormat, level_number: int, out: TextIO) -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _add_logger_name,
            _hide_secrets,
            _renderer(log_format, terminal=out.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level_number),
        logger_factory=lambda *names: _Output(names[0] if names else "dagnats", out),
        cache_logger_on_first_use=False,
    )


class _Output:
    """Where structlog's bound loggers hand a finished line."""

    def __init__(self, name: str, stream: TextIO) -> None:
        self.name = name
        self._stream = stream

    def msg(self, line: str) -> None:
        """Write a line. Nobody can be told if standard error is closed, or busy below a signal handler."""
        with suppress(OSError, ValueError, RuntimeError):
            self._stream.write(line + "\n")
            self._stream.flush()

    debug = info = warning = error = critical = msg


class _FromStandardLibrary(logging.Handler):
    """Hands records of the standard library's loggers to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        level = next((number for number in _LEVEL_NUMBERS if record.levelno >= number), logging.DEBUG)
        structlog.get_logger(record.name).log(level, record.getMessage(), exc_info=record.exc_info)


def _add_logger_name(logger: _Output, _method: str, event_dict: EventDict) -> EventDict:
    event_dict["logger"] = logger.name
    return event_dict


def _hide_secrets(_logger: _Output, _method: str, event_dict: EventDict) -> EventDict:
    return {key: redact(key, value) for key, value in event_dict.items()}


def _renderer(log_format: LogFormat, *, terminal: bool) -> Processor:
    if log_format is LogFormat.CONSOLE or (log_format is LogFormat.AUTO and terminal):
        render = structlog.dev.ConsoleRenderer(
            colors=terminal,
            pad_event_to=0,
            pad_level=False,
            sort_keys=False,
            exception_formatter=structlog.dev.plain_traceback,
        )
        return lambda logger, method, event_dict: render(logger, method, _for_people(event_dict))
    return _render_json


def _for_people(event_dict: EventDict) -> EventDict:
    """Short enough for a terminal: the local time of day, and no logger beside an event that names its part."""
    event_dict["timestamp"] = datetime.fromisoformat(event_dict["timestamp"]).astimezone().strftime("%H:%M:%S.%f")[:-3]
    event_dict.pop("logger", None)
    return event_dict


def _render_json(_logger: _Output, _method: str, event_dict: EventDict) -> str:
    first: dict[str, Any] = {key: event_dict.pop(key) for key in _FIRST_KEYS if key in event_dict}
    line = {**first, **event_dict}
    try:
        return msgspec.json.encode(line, enc_hook=repr).decode()
    except (TypeError, ValueError):  # lone surrogates, odd keys: an odd line is better than none
        return msgspec.json.encode({str(key): ascii(value) for key, value in line.items()}).decode()
