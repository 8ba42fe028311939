"""How many tasks each queue may ask for: a worker's free slots, shared by its queues. Pure: no IO, no clock.

A slot is *asked* (a request for a task is out for it), *held* (a task has it), or free. Asked and held
together never exceed the bound of the worker nor that of the task type, so no task waits in a worker that
cannot start it while another worker could.

A request cannot be taken back, so what one queue asks is lost to the others until the request ends.
Therefore a queue that is idle asks for one task, and a queue that was fed just now asks for half of what is
free, with requests that end soon. With fewer slots than queues, the queues take turns.
"""

from __future__ import annotations

from collections.abc import Callable

EXPIRES_S = 20.0
"""How long a request stands that takes nothing from other queues."""
SHARED_EXPIRES_S = 0.25
"""How long one stands that other queues might be waiting for."""
TURN_S = 0.1
"""A turn, when queues take turns and nobody has work; while somebody has, `BUSY_TURN_S`."""
BUSY_TURN_S = 0.01
FED_S = 0.5
"""A queue counts as fed for so long after a task came from it."""


class TypeSlots:
    """The slots of one task type, shared by its queues (one a shard)."""

    __slots__ = ("held", "limit", "queues")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.queues: list[QueueSlots] = []

    @property
    def free(self) -> int:
        return self.limit - self.held - sum(queue.asked for queue in self.queues)


class QueueSlots:
    """One queue's side of it. `read_asked` tells what its puller has asked for and not got yet."""

    __slots__ = ("_read_asked", "fed_at_s", "turn", "type")

    def __init__(self, type_slots: TypeSlots, read_asked: Callable[[], int]) -> None:
        self.type = type_slots
        self._read_asked = read_asked
        self.fed_at_s = float("-inf")
        self.turn = 0
        type_slots.queues.append(self)

    @property
    def asked(self) -> int:
        return self._read_asked()


class Slots:
    """The slots of a worker. `now_s` is any clock that only goes forward."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._queues: list[QueueSlots] = []
        self._turns = 0

    def add_queue(self, type_slots: TypeSlots, read_asked: Callable[[], int]) -> QueueSlots:
        queue = QueueSlots(type_slots, read_asked)
        self._queues.append(queue)
        return queue

    @property
    def free(self) -> int:
        return self.limit - self.held - sum(queue.asked for queue in self._queues)

    def may_ask(self, queue: QueueSlots, now_s: float) -> int:
        """How many more tasks this queue may ask for now."""
        free = self.free
        if len(self._queues) == 1:
            wanted = free
        elif self._takes_turns:
            wanted = 1 - queue.asked if self._count_ahead(queue) < free else 0
        elif self._is_fed(queue, now_s):
            wanted = (free + 1) // 2
        else:
            wanted = 1 - queue.asked
        return max(0, min(wanted, free, queue.type.free))

    def expires_s(self, queue: QueueSlots, now_s: float) -> float:
        """How long the request that this queue makes now shall stand."""
        self._turns += 1
        queue.turn = self._turns
        if self._takes_turns:
            return BUSY_TURN_S if any(self._is_fed(other, now_s) for other in self._queues) else TURN_S
        return SHARED_EXPIRES_S if len(self._queues) > 1 and self._is_fed(queue, now_s) else EXPIRES_S

    def in_order(self) -> list[QueueSlots]:
        """The queues that may ask: first those with nothing asked, then those whose turn is longest ago."""
        if self.held >= self.limit:
            return []
        return sorted(self._queues, key=lambda queue: (queue.asked > 0, queue.turn))

    def take(self, queue: QueueSlots, now_s: float) -> None:
        """A task came from a queue; it holds a slot until `release`."""
        queue.fed_at_s = now_s
        queue.type.held += 1
        self.held += 1

    def release(self, type_slots: TypeSlots) -> None:
        """A task gives its slot back."""
        type_slots.held -= 1
        self.held -= 1

    @property
    def _takes_turns(self) -> bool:
        return len(self._queues) > self.limit

    def _count_ahead(self, queue: QueueSlots) -> int:
        """Queues that wait for a slot and whose turn is longer ago."""
        return sum(
            other.turn < queue.turn and other.asked == 0 and other.type.held < other.type.limit
            for other in self._queues
        )

    def _is_fed(self, queue: QueueSlots, now_s: float) -> bool:
        return now_s - queue.fed_at_s <= FED_S
