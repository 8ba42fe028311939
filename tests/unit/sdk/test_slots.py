"""Slots: what is asked and held never exceeds its bounds, and every queue gets its turn."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from dagnats.worker.slots import BUSY_TURN_S, EXPIRES_S, SHARED_EXPIRES_S, TURN_S, QueueSlots, Slots, TypeSlots


class Queue:
    """A queue with its puller: asks when it may, as `PullConsumer` does."""

    def __init__(self, slots: Slots, type_slots: TypeSlots) -> None:
        self.asked = 0
        self.slots: QueueSlots = slots.add_queue(type_slots, lambda: self.asked)


def ask_all(slots: Slots, queues: list[Queue], now_s: float) -> None:
    by_slots = {queue.slots: queue for queue in queues}
    for queue_slots in slots.in_order():
        more = slots.may_ask(queue_slots, now_s)
        if more > 0:
            slots.expires_s(queue_slots, now_s)
            by_slots[queue_slots].asked += more


@settings(max_examples=200)
@given(
    limit=st.integers(1, 8),
    type_limits=st.lists(st.integers(1, 6), min_size=1, max_size=6),
    moves=st.lists(st.tuples(st.sampled_from("tern"), st.integers(0, 5)), max_size=60),
)
def test_asked_and_held_stay_within_every_bound(
    limit: int, type_limits: list[int], moves: list[tuple[str, int]]
) -> None:
    slots = Slots(limit)
    queues = [Queue(slots, TypeSlots(each)) for each in type_limits]
    held: list[Queue] = []
    now_s = 0.0
    for move, index in moves:
        queue = queues[index % len(queues)]
        if move == "t" and queue.asked:
            queue.asked -= 1
            slots.take(queue.slots, now_s)
            held.append(queue)
        elif move == "e":
            queue.asked = 0
        elif move == "r" and held:
            slots.release(held.pop(index % len(held)).slots.type)
        elif move == "n":
            now_s += 0.3
        ask_all(slots, queues, now_s)
        assert slots.held == len(held)
        assert slots.held + sum(each.asked for each in queues) <= limit
        for each, bound in zip(queues, type_limits, strict=True):
            assert held.count(each) + each.asked <= bound


def test_the_only_queue_asks_for_everything() -> None:
    slots = Slots(100)
    queue = Queue(slots, TypeSlots(40))
    assert slots.may_ask(queue.slots, 0) == 40
    assert slots.expires_s(queue.slots, 0) == EXPIRES_S


def test_an_idle_queue_asks_for_one_and_a_fed_one_for_half_of_what_is_free() -> None:
    slots = Slots(100)
    idle, fed = Queue(slots, TypeSlots(100)), Queue(slots, TypeSlots(100))
    slots.take(fed.slots, 1.0)
    assert slots.may_ask(idle.slots, 1.0) == 1
    assert slots.may_ask(fed.slots, 1.0) == 50
    assert slots.expires_s(idle.slots, 1.0) == EXPIRES_S
    assert slots.expires_s(fed.slots, 1.0) == SHARED_EXPIRES_S
    assert slots.may_ask(fed.slots, 9.0) == 1, "it has not been fed for long"


def test_shards_of_a_task_share_its_bound() -> None:
    slots = Slots(100)
    shared = TypeSlots(3)
    first, second = Queue(slots, shared), Queue(slots, shared)
    first.asked = 3
    assert slots.may_ask(second.slots, 0) == 0


def test_queues_take_turns_when_slots_are_fewer() -> None:
    slots = Slots(1)
    queues = [Queue(slots, TypeSlots(1)) for _ in range(3)]
    asked: list[int] = []
    for _ in range(6):
        ask_all(slots, queues, 0.0)
        [holder] = [index for index, queue in enumerate(queues) if queue.asked]
        asked.append(holder)
        queues[holder].asked = 0
    assert sorted(asked) == [0, 0, 1, 1, 2, 2]
    assert slots.expires_s(queues[0].slots, 0.0) == TURN_S
    slots.take(queues[1].slots, 0.0)
    assert slots.expires_s(queues[0].slots, 0.0) == BUSY_TURN_S
