"""Leases, step by step: what an engine takes, gives up, and claims again. The real Ownership over a table in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dagnats_core import limits
from dagnats_core.engine.ports import Holding
from tests.fault.clockwork import World
from tests.fault.engines import Engine, Setting, Site
from tests.fault.network import Network, Rates
from tests.fault.simulate import silenced
from tests.fault.truth import Truth

TTL_S = limits.LEASE_TTL_MS / 1000


class Leased:
    """A site whose engines keep leases, on a network without faults."""

    def __init__(self, partitions: int) -> None:
        self.world = World(0)
        truth = Truth(self.world, {}, {})
        network = Network(self.world, Rates(), truth)
        self.site = Site(self.world, network, truth, Setting(leased=True, takes_alone=True), partitions)
        self.table = self.site.table

    def start(self, *, alone: bool = False) -> Engine:
        self.site.setting.takes_alone = alone
        return self.site.start_engine()

    def after(self, seconds: float) -> None:
        end = self.world.now + seconds
        self.world.at(end, lambda: None)
        self.world.run(end)

    def owned(self, engine: Engine) -> list[int]:
        """Partitions for which the engine surely may answer."""
        return sorted(number for number, partition in engine.partitions.items() if partition.owned)


@pytest.fixture
def leased() -> Iterator[type[Leased]]:
    made: list[Leased] = []

    class Kept(Leased):
        def __init__(self, partitions: int) -> None:
            super().__init__(partitions)
            made.append(self)

    with silenced():
        yield Kept
    for each in made:
        each.world.close()


def test_engines_share_the_partitions(leased: type[Leased]) -> None:
    site = leased(5)
    first = site.start()
    site.after(0.5)
    assert site.owned(first) == [0, 1, 2, 3, 4]
    second = site.start()
    site.after(3.0)
    shares = sorted((site.owned(first), site.owned(second)), key=len)
    assert [len(share) for share in shares] == [2, 3]
    assert sorted(shares[0] + shares[1]) == [0, 1, 2, 3, 4]


def test_what_a_dead_engine_held_is_taken_when_its_key_expires(leased: type[Leased]) -> None:
    site = leased(4)
    first, second = site.start(), site.start()
    site.after(3.0)
    assert len(site.owned(second)) == 2
    first.crash()
    site.after(TTL_S + 3.0)
    assert site.owned(second) == [0, 1, 2, 3]


def test_who_leaves_in_order_is_followed_at_once(leased: type[Leased]) -> None:
    site = leased(4)
    first, second = site.start(), site.start()
    site.after(3.0)
    first.process.create_task(first.stop())
    site.after(1.5)
    assert site.owned(second) == [0, 1, 2, 3]


def test_who_starts_alone_does_not_wait_for_keys_of_the_dead(leased: type[Leased]) -> None:
    site = leased(3)
    first = site.start()
    site.after(1.0)
    first.crash()
    second = site.start(alone=True)
    site.after(0.5)
    assert site.owned(second) == [0, 1, 2]
    site.after(2 * TTL_S)
    assert site.owned(second) == [0, 1, 2]


def test_who_was_stalled_for_longer_than_its_key_owns_nothing(leased: type[Leased]) -> None:
    site = leased(2)
    engine = site.start()
    site.after(1.0)
    held = dict(engine.partitions)
    engine.process.stall(TTL_S + 2.0)
    site.after(TTL_S + 2.2)
    assert all(engine.partitions.get(number) is not partition for number, partition in held.items())
    site.after(1.5)
    assert site.owned(engine) == [0, 1]


def test_who_cannot_renew_gives_up_before_others_may_claim(leased: type[Leased]) -> None:
    site = leased(2)
    engine = site.start()
    site.after(1.0)
    held = list(engine.partitions.values())
    site.site.network.rates.lost = 1.0
    site.after(TTL_S - 0.5)
    assert not any(partition.may_answer() for partition in held)
    site.after(2.5)
    assert not any(partition.owned for partition in held)


def test_what_was_lost_is_claimed_again(leased: type[Leased]) -> None:
    site = leased(2)
    engine = site.start()
    site.after(1.0)
    engine.partitions[0].lose()
    site.after(2.5)
    assert site.owned(engine) == [0, 1]


def test_a_key_that_is_not_wanted_is_given_up(leased: type[Leased]) -> None:
    site = leased(2)
    first, second = site.start(), site.start()
    site.after(3.0)
    mine = site.owned(second)[0]
    second.partitions[mine].lose()
    site.table.partitions[mine] = Holding(first.name, 1000)
    site.after(4.0)
    assert sorted(site.owned(first) + site.owned(second)) == [0, 1]
    assert site.owned(second)


def test_nothing_stays_open_behind_a_lost_partition(leased: type[Leased]) -> None:
    site = leased(3)
    engine = site.start()
    site.after(1.0)
    for partition in list(engine.partitions.values()):
        partition.lose()
    site.after(3.0)
    held = site.site.network.leftovers(engine.process)
    assert len(site.owned(engine)) == 3
    assert sorted(held) == sorted({*held})
    assert len(held) == 6
