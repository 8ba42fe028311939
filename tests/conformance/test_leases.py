"""What ownership relies on of the leases bucket, held against nats-server and against the simulation's table."""

from __future__ import annotations

import asyncio

import pytest

from dagnats_core import limits
from dagnats_core.engine.ports import Holding
from tests.conformance.conftest import Ports, Run


def test_engines_live_until_they_resign(run: Run) -> None:
    async def test(ports: Ports) -> None:
        one, two = ports.leases("one"), ports.leases("two")
        now = asyncio.get_running_loop().time()
        assert now < await one.renew() <= asyncio.get_running_loop().time() + limits.LEASE_TTL_MS / 1000
        await two.renew()
        assert (await one.read()).engines == {"one", "two"}
        await one.resign()
        assert (await two.read()).engines == {"two"}

    run(test)


@pytest.mark.slow
def test_an_engine_that_does_not_renew_is_gone_when_it_says_so_itself(run: Run) -> None:
    async def test(ports: Ports) -> None:
        one, two = ports.leases("one"), ports.leases("two")
        expires = await one.renew()
        loop = asyncio.get_running_loop()
        while "one" in (await two.read()).engines:
            assert loop.time() < expires + 3.0
            await asyncio.sleep(0.05)
        assert loop.time() >= expires

    run(test)


def test_one_of_two_claims_wins(run: Run) -> None:
    async def test(ports: Ports) -> None:
        one, two = ports.leases("one"), ports.leases("two")
        assert await one.claim(0, None)
        assert not await two.claim(0, None)
        held = (await two.read()).partitions[0]
        assert held.engine == "one"
        assert await two.claim(0, held)
        assert not await one.claim(0, held)
        assert (await one.read()).partitions[0].engine == "two"

    run(test)


def test_nobody_claims_from_the_living_but_by_force(run: Run) -> None:
    async def test(ports: Ports) -> None:
        one, two = ports.leases("one"), ports.leases("two")
        await one.renew()
        assert await one.claim(3, None)
        held = (await two.read()).partitions[3]
        assert not await two.claim(3, held)
        assert await two.claim(3, held, by_force=True)

    run(test)


def test_who_holds_a_partition_may_claim_it_again(run: Run) -> None:
    async def test(ports: Ports) -> None:
        one = ports.leases("one")
        await one.renew()
        assert await one.claim(1, None)
        assert await one.claim(1, (await one.read()).partitions[1])

    run(test)


def test_a_release_gives_up_only_what_is_still_held(run: Run) -> None:
    async def test(ports: Ports) -> None:
        one, two = ports.leases("one"), ports.leases("two")
        assert await one.claim(0, None)
        held = (await one.read()).partitions[0]
        assert await two.claim(0, held)
        await one.release(0, held)
        now_held = (await one.read()).partitions[0]
        assert now_held.engine == "two"
        await two.release(0, now_held)
        assert (await one.read()).partitions == {}
        assert await one.claim(0, None)
        await one.release(5, Holding("one", 1))

    run(test)
