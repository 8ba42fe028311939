"""One line a record, one way out, no secrets, never an exception."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from dagnats_core.telemetry.logs import LogFormat, LogLevel, configure_logs, log_warnings_only


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines_of(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().split("\n")[:-1]]


def test_a_json_line_has_time_level_logger_event_and_fields() -> None:
    out = io.StringIO()
    configure_logs(LogFormat.JSON, LogLevel.INFO, out)
    structlog.get_logger("dagnats.x").info("ready", nats_url="nats://127.0.0.1:4222", count=3)
    (line,) = lines_of(out)
    assert list(line) == ["timestamp", "level", "logger", "event", "nats_url", "count"]
    assert datetime.fromisoformat(line.pop("timestamp")).utcoffset().total_seconds() == 0
    assert line == {
        "level": "info",
        "logger": "dagnats.x",
        "event": "ready",
        "nats_url": "nats://127.0.0.1:4222",
        "count": 3,
    }


def test_auto_is_json_unless_there_is_a_terminal() -> None:
    file, terminal = io.StringIO(), Terminal()
    for stream in (file, terminal):
        configure_logs(LogFormat.AUTO, LogLevel.INFO, stream)
        structlog.get_logger("x").info("hello", n=1)
    assert lines_of(file)[0]["event"] == "hello"
    assert "hello" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")


def test_lines_go_to_standard_error_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogFormat.JSON)
    structlog.get_logger("x").info("hello")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err)["event"] == "hello"


def test_the_level_holds_for_both_kinds_of_loggers() -> None:
    out = io.StringIO()
    configure_logs(LogFormat.JSON, LogLevel.WARNING, out)
    structlog.get_logger("x").info("no")
    structlog.get_logger("x").warning("yes")
    logging.getLogger("y").info("no")
    logging.getLogger("y").log(35, "between %s and error", "warning")
    assert [(line["event"], line["level"]) for line in lines_of(out)] == [
        ("yes", "warning"),
        ("between warning and error", "warning"),
    ]


@pytest.mark.parametrize("log_format", [LogFormat.JSON, LogFormat.CONSOLE])
def test_an_exception_comes_with_its_traceback_and_without_secrets(log_format: LogFormat) -> None:
    out = io.StringIO()
    configure_logs(log_format, LogLevel.INFO, out)
    for logger in (structlog.get_logger("a"), logging.getLogger("b")):
        try:
            raise ValueError("no answer from", "nats://me:hunter2@host")
        except ValueError:
            logger.exception("failed")
    assert out.getvalue().count("Traceback") == 2
    assert "nats://me:***@host" in out.getvalue()
    assert "hunter2" not in out.getvalue()


def test_secrets_are_hidden_wherever_they_stand() -> None:
    out = io.StringIO()
    configure_logs(LogFormat.JSON, LogLevel.INFO, out)
    seed = "SUA" + "A" * 55
    structlog.get_logger("x").info(
        f"seed {seed}",
        token="t0p",
        nested={"db_password": "t0p", "plain": 1},
        urls=["nats://t0p@h", "nats://h"],
    )
    assert "t0p" not in out.getvalue()
    assert seed not in out.getvalue()
    (line,) = lines_of(out)
    assert line["nested"] == {"db_password": "***", "plain": 1}
    assert line["urls"] == ["nats://***@h", "nats://h"]


@settings(max_examples=30)
@given(fields=st.dictionaries(st.text(max_size=5), st.recursive(st.text() | st.floats() | st.binary(), st.lists)))
def test_any_fields_make_one_line_of_json(fields: dict[str, Any]) -> None:
    out = io.StringIO()
    configure_logs(LogFormat.JSON, LogLevel.INFO, out)
    structlog.get_logger("x").bind(**{f"_{key}": value for key, value in fields.items()}).info("event", odd=object())
    assert len(lines_of(out)) == 1
    assert out.getvalue().count("\n") == 1


def test_a_line_with_odd_keys_and_surrogates_is_written_all_the_same() -> None:
    out = io.StringIO()
    configure_logs(LogFormat.JSON, LogLevel.INFO, out)
    structlog.get_logger("x").info("odd", name="\ud800", table={(1, 2): 3})
    (line,) = lines_of(out)
    assert line["event"] == "'odd'"


def test_a_closed_stream_is_no_error() -> None:
    out = io.StringIO()
    configure_logs(LogFormat.JSON, LogLevel.INFO, out)
    out.close()
    structlog.get_logger("x").info("nobody hears this")
    assert sys.exc_info() == (None, None, None)


def test_a_library_prints_nothing_but_warnings_and_those_to_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    structlog.reset_defaults()
    log_warnings_only()
    structlog.get_logger("dagnats").info("noise")
    structlog.get_logger("dagnats").warning("trouble")
    out, err = capsys.readouterr()
    assert out == ""
    assert "noise" not in err
    assert "trouble" in err


def test_a_program_that_set_up_its_logs_keeps_them(capsys: pytest.CaptureFixture[str]) -> None:
    structlog.reset_defaults()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory())
    log_warnings_only()
    structlog.get_logger("dagnats").info("mine")
    assert "mine" in capsys.readouterr().out
