"""What a step gets as its input. Pure; values are undecoded JSON, and are decoded only for expressions.

Without `input:` nothing is decoded: no dependency → the run's input, one → its output, several → an object by step id,
whose parts are joined as bytes. A skipped dependency's output is null.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Raw

from dagnats_core import limits
from dagnats_core.flow.expressions import Budget, ExpressionFailed, References
from dagnats_core.flow.model import Json
from dagnats_core.flow.plan import StepPlan

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Decoded:
    """Decoded values of a decision: each is decoded once, however many steps read it. Lives as long as the decision."""

    def __init__(self) -> None:
        self._values: dict[int, tuple[Raw, Json]] = {}
        self.spent = 0
        """What the expressions of the decision have cost so far, in units of `Budget`."""

    def get(self, raw: Raw) -> Json:
        """The value of `raw`, not to be changed. Raises ExpressionFailed if it is not JSON that can be read."""
        known = self._values.get(id(raw))
        if known is not None:
            return known[1]
        try:
            value = _decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ExpressionFailed(f"a value that it reads is not valid JSON: {error}") from None
        self._values[id(raw)] = raw, value
        return value


def build_input(step: StepPlan, run_input: Raw, outputs: Mapping[str, Raw], decoded: Decoded | None = None) -> Raw:
    """The input of a step. `outputs` holds at least those of `step.input_reads`.

    Give the same `decoded` to all calls of one decision. Raises ExpressionFailed.
    """
    if step.template is not None:
        decoded = decoded or Decoded()
        values, size = read(step.template.references, run_input, outputs, decoded)
        budget = Budget()
        try:
            return Raw(_encode(step.template.fill(values, size, budget)))
        finally:
            decoded.spent += limits.EXPRESSION_COST_MAX - budget.left
    if not step.depends_on:
        return run_input
    if len(step.depends_on) == 1:
        return outputs[step.depends_on[0]]
    return join_by_id(step.depends_on, outputs)


def join_by_id(steps: Iterable[str], outputs: Mapping[str, Raw]) -> Raw:
    """The outputs of `steps` as one object by step id, joined without decoding them."""
    return Raw(b"{%s}" % b",".join(b'"%s":%s' % (step.encode(), bytes(outputs[step])) for step in steps))


def read(
    references: References, run_input: Raw, outputs: Mapping[str, Raw], decoded: Decoded
) -> tuple[dict[str, Json], int]:
    """The values that expressions with these references read, and their size in bytes. Raises ExpressionFailed."""
    raws = [outputs[step] for step in references.steps] + [run_input] * references.input
    size = sum(memoryview(raw).nbytes for raw in raws)
    if size > limits.EXPRESSION_VALUE_BYTES_MAX:
        raise ExpressionFailed(
            f"the values that it reads are {size} bytes long; "
            f"expressions read at most {limits.EXPRESSION_VALUE_BYTES_MAX} bytes"
        )
    steps = {step: decoded.get(outputs[step]) for step in references.steps}
    return {"input": decoded.get(run_input) if references.input else None, "steps": steps}, size
