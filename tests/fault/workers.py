"""Workers and the task consumer that they pull from, and all that fails between them.

A worker is a few callbacks in virtual time, not a process: what is under test is the engine, and a worker that crashes
simply never calls back. `Workforce` is also the server's side: it hands a task out until it is acknowledged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from dagnats_core import limits
from dagnats_core.bus.message import StoredMessage
from dagnats_core.ids import partition_of
from dagnats_core.run import messages as m
from tests.fault.clockwork import Process, World
from tests.fault.executions import REPORT_TIMEOUT_S, Delivery, Execution
from tests.fault.network import Network
from tests.fault.truth import Asked, Truth

ACK_WAIT_S = limits.ACK_WAIT_MS / 1000


class Habits(msgspec.Struct):
    """How often handlers and workers do what, 0 to 1."""

    fails: float = 0.0
    retries: float = 0.0
    slow: float = 0.0
    hangs: float = 0.0
    crashes: float = 0.0
    redelivered: float = 0.0
    ack_lost: float = 0.0
    repeats: float = 0.0
    garbage: float = 0.0
    large: float = 0.0
    by_reference: float = 0.0
    asks_twice: float = 0.0


class Workforce:
    """The task consumer and the workers that pull from it."""

    def __init__(self, world: World, network: Network, truth: Truth, habits: Habits, count: int) -> None:
        self.world = world
        self.network = network
        self.truth = truth
        self.habits = habits
        self.deliveries: list[Delivery] = []
        self.asked: dict[str, tuple[Asked, Callable[[str], None]]] = {}
        self.must_claim_rule = True
        self._waiting: deque[Delivery] = deque()
        self._inboxes = 0
        self.workers = [Worker(self, f"w{i}") for i in range(count)]
        network.on_task = self._stored
        network.on_answer = self._on_answer
        network.on_notice = self._on_notice

    # ---- the consumer

    def _stored(self, message: StoredMessage) -> None:
        delivery = Delivery(message)
        self.deliveries.append(delivery)
        self._offer(delivery)

    def _offer(self, delivery: Delivery) -> None:
        self._waiting.append(delivery)
        self.world.after(self.world.delay(), self._hand_out)

    def _hand_out(self) -> None:
        """Give what waits to workers with a free slot, by lot."""
        while self._waiting:
            free = [worker for worker in self.workers if worker.free]
            if not free:
                return
            delivery = self._waiting.popleft()
            if delivery.acked or self.network.stream.messages.get(delivery.message.seq) is not delivery.message:
                continue
            delivery.count += 1
            self.world.pick(free).begin(delivery)

    def ack(self, delivery: Delivery) -> None:
        if self.world.hits(self.habits.ack_lost):
            self.redeliver(delivery, self.world.between(0.0, ACK_WAIT_S))
        else:
            delivery.acked = True

    def redeliver(self, delivery: Delivery, delay_s: float) -> None:
        self.world.after(delay_s, self._redeliver, delivery)

    def _redeliver(self, delivery: Delivery) -> None:
        if not delivery.acked:
            self._offer(delivery)

    def calm(self) -> None:
        """Faults stop: whoever hangs is killed and its task handed out again."""
        self.habits = Habits()
        for worker in self.workers:
            worker.restart()

    # ---- answers and notices

    def ask(self, asked: Asked, on_answer: Callable[[str], None]) -> None:
        """Send a report once; its answer comes soon, late or never."""
        self._inboxes += 1
        inbox = f"inbox.{self._inboxes}"
        self.asked[inbox] = (asked, on_answer)
        partition = partition_of(asked.run_id)
        subject = self.network.subjects.report(partition, asked.token, asked.run_id, asked.step)
        self.network.request(partition, subject, asked.data, inbox)

    def _on_answer(self, inbox: str, data: bytes, process: Process) -> None:
        known = self.asked.get(inbox)
        if known is None:
            return
        asked, on_answer = known
        answer = msgspec.json.decode(data, type=m.ReportAnswer)
        kind = asked.report.kind if asked.report else "garbage"
        self.world.note(
            process.name, f"answers {asked.worker} {kind} {asked.run_id[-6:]} {asked.step}: {answer.answer}"
        )
        self.truth.answered(asked, answer, process.name)
        rates, world = self.network.rates, self.world
        if not world.hits(rates.answer_lost):
            delay_s = world.between(0.0, 2 * REPORT_TIMEOUT_S) if world.hits(rates.answer_late) else world.delay()
            world.after(delay_s, on_answer, answer.answer)

    def _on_notice(self, subject: str, data: bytes) -> None:
        run_id = msgspec.json.decode(data, type=m.CancelNotice).run_id
        if not self.truth.runs[run_id].ended:
            raise self.world.broken("P2", f"workers are told that {run_id} has ended, which lives")
        for worker in self.workers:
            if not self.world.hits(self.network.rates.notice_lost):
                self.world.after(self.world.delay(), worker.notices.add, run_id)


class Worker:
    """One worker: a few slots, and the runs of which it heard that they have ended."""

    def __init__(self, force: Workforce, name: str) -> None:
        self.force = force
        self.name = name
        self.slots = 2
        self.executions: list[Execution] = []
        self.notices: set[str] = set()

    @property
    def free(self) -> bool:
        return len(self.executions) < self.slots

    def begin(self, delivery: Delivery) -> None:
        execution = Execution(self, delivery)
        self.executions.append(execution)
        execution.begin()

    def crash(self) -> None:
        """All that runs here is gone, its tasks come back when nobody has acknowledged them for a while."""
        self.force.world.note(self.name, "crashes")
        self.restart(self.force.world.between(0.5, ACK_WAIT_S))

    def restart(self, redelivered_after_s: float = 0.0) -> None:
        executions, self.executions = self.executions, []
        self.notices = set()
        for execution in executions:
            execution.over = True
            self.force.redeliver(execution.delivery, redelivered_after_s)
