"""The quick start does what the README says, on a file of anybody's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.processes import running_in_group, wait_until

QUICKSTART = Path(__file__).parents[3] / "examples" / "quickstart"
SVG = "{http://www.w3.org/2000/svg}"


def quickstart(file: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run it in a process group of its own; whatever it starts must be gone when it has ended."""
    command = [sys.executable, str(QUICKSTART / "run.py"), str(file)]
    process = subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    out, err = process.communicate(timeout=90)
    wait_until(lambda: not running_in_group(process.pid), timeout_s=5, what="nothing is left running")
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def test_it_counts_the_words_of_a_file_and_draws_them(tmp_path: Path) -> None:
    text = tmp_path / "a <b> & c.txt"
    text.write_text("apple banana apple\ncherry <&> durian\n" * 50 + "apple\n")
    result = quickstart(text, tmp_path)
    assert result.returncode == 0, result.stderr
    for step in ("split", "count-0", "count-1", "count-2", "merge", "report"):
        assert f"✓ {step} " in result.stdout
    assert "251 words, 4 different, 101 lines" in result.stdout
    assert "run completed" in result.stdout
    chart = tmp_path / "quickstart-report" / "a <b> & c.svg"
    root = ElementTree.parse(chart).getroot()
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert "The words of a <b> & c.txt" in texts
    assert {"apple", "101", "banana", "cherry", "durian"} <= set(texts)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [("none.txt", None, "there is no file"), ("binary", b"\xff\xfe\x00", "is not a text file")],
)
def test_it_says_what_is_wrong_with_the_file(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    result = quickstart(tmp_path / name, tmp_path)
    assert result.returncode == 7
    assert says in result.stderr
    assert "✗ split" in result.stdout
    assert "Traceback" not in result.stderr


def test_the_worker_runs_beside_a_server_as_in_three_terminals() -> None:
    """The worker's command line is the one that the README names."""
    command = [sys.executable, str(QUICKSTART / "worker.py"), "--help"]
    help_text = subprocess.check_output(command, text=True, env={**os.environ, "COLUMNS": "100"})
    assert "--nats-url" in help_text
