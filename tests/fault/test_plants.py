"""Each rule that is left out is caught, by a property that stands for it, and the same seed holds with the rule in."""

from __future__ import annotations

import pytest

from tests.fault.plants import PLANTS, planted
from tests.fault.simulate import run_seed, silenced

SEEDS_MAX = 3000


@pytest.mark.parametrize("name", PLANTS)
def test_a_rule_that_is_left_out_is_caught(name: str) -> None:
    plant = PLANTS[name]
    with silenced():
        for seed in range(SEEDS_MAX):
            with planted(plant):
                violation = run_seed(seed, focus=plant.focus)
            if violation is not None:
                break
        else:
            pytest.fail(f"{SEEDS_MAX} seeds without the rule that {plant.rule}, and nothing was found")
        assert violation.rule in plant.caught_by, str(violation)
        assert run_seed(seed, focus=plant.focus) is None
