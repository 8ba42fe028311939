"""The simulation on a few hundred seeds; CI runs 20,000 (`python -m tests.fault.simulate --seeds 20000`)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fault.simulate import main, print_seed, run_seed, silenced

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("first", range(0, 600, 100))
def test_nothing_is_found(first: int) -> None:
    with silenced():
        found = {seed: str(violation) for seed in range(first, first + 100) if (violation := run_seed(seed))}
    assert not found


def test_a_seed_is_the_same_run_in_every_process() -> None:
    command = [sys.executable, "-m", "tests.fault.simulate", "--seed", "7", "--trace"]
    traces = [
        subprocess.run(
            command, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True, check=True
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert traces[0] == traces[1]
    assert b"in.start" in traces[0]


def test_a_failing_seed_is_told_with_its_trace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dagnats_core.engine.partition import Partition

    monkeypatch.setattr(Partition, "input_done", lambda self, seq: None)
    monkeypatch.setattr(Partition, "_on_input", lambda self, subject, seq, data: None)
    assert main(["--seeds", "3", "--jobs", "1"]) == 1
    told = capsys.readouterr().out
    assert "python -m tests.fault.simulate --seed " in told
    assert "P1" in told
    seed = int(told.split("--seed ")[1].split()[0])
    assert print_seed(seed) == 1
    assert "faults stop" in capsys.readouterr().out
