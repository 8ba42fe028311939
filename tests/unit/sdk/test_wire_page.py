"""docs/wire.md names what is on the wire: everything, and by its right name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args, get_type_hints

import msgspec
import pytest

from dagnats.worker.context import Progress
from dagnats_core.bus.subjects import Subjects, task_token
from dagnats_core.bus.topology import Topology
from dagnats_core.errors import ERROR_CLASSES
from dagnats_core.run import messages as m
from dagnats_micro.schemas import worker

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "wire.md").read_text()
HTTP_ONLY = {"method_not_allowed", "not_acceptable", "unsupported_media_type", "run_failed"}


@pytest.mark.parametrize("struct", [m.Task, m.Report, m.ReportAnswer, m.CancelNotice, Progress, m.Ref, m.Decision])
def test_every_field_of_a_message_is_there(struct: type[msgspec.Struct]) -> None:
    for field in msgspec.structs.fields(struct):
        if (struct, field.encode_name) in {(m.ReportAnswer, "message"), (m.Decision, "final_ref")}:
            continue  # words for people; a reference in the place of `final`
        assert re.search(rf"[`\"]{field.encode_name}[`\"]", PAGE), f"{struct.__name__}.{field.encode_name}"


def test_every_kind_answer_and_event_is_there() -> None:
    names = [*get_args(get_type_hints(m.Report)["kind"]), *get_args(get_type_hints(m.ReportAnswer)["answer"])]
    names += [event.__struct_config__.tag for event in get_args(m.Event)]
    for name in names:
        assert re.search(rf"[`\"]{name}[`\"]", PAGE), name


def test_every_error_code_is_there_with_its_status() -> None:
    for code, row in ERROR_CLASSES.items():
        if code not in HTTP_ONLY:
            assert f"| `{code}` | {row.http_status} |" in PAGE, code


def test_every_stream_bucket_and_consumer_is_there() -> None:
    topology = Topology("<site>")
    for bucket in (
        topology.definitions_bucket, topology.workers_bucket, topology.leases_bucket, topology.requests_bucket,
    ):  # fmt: skip
        assert f"`KV_{bucket}`" in PAGE, bucket
    assert f"`{topology.archive_stream}`" in PAGE
    assert f"`{topology.payloads_bucket}`" in PAGE
    assert f"`{topology.run_stream(0)[:-1]}<shard>`" in PAGE
    assert f"`{topology.task_consumer('<token>')}`" in PAGE


def test_subjects_of_workers_are_as_they_say() -> None:
    subjects = Subjects("<site>")
    assert f"`{subjects.cancel_notice('<token>')}`" in PAGE
    assert f"`{subjects.progress('<token>', '<run id>', '<step>')}`" in PAGE
    assert "`dagnats.<site>.report.<partition>.<token>.<run id>.<step>`" in PAGE
    assert f"`{task_token('text.count', 'gpu')}`" in PAGE


def test_what_worker_connect_tells_is_explained() -> None:
    for name in ("queues", "ack_wait_ms", "claim_after_ms", "deliveries_before_lost", "inline_bytes_max"):
        assert name in {field.name for field in msgspec.structs.fields(worker.ConnectReply)}
        assert f"`{name}`" in PAGE
    for field in msgspec.structs.fields(worker.Queue):
        assert f"`{field.name}`" in PAGE or field.name == "domain"


@pytest.mark.parametrize("page", ["wire.md", "workers.md", "client.md"])
def test_programs_on_the_pages_compile(page: str) -> None:
    programs = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)
    assert programs
    for program in programs:
        compile(program, page, "exec", flags=0x2000)  # PyCF_ALLOW_TOP_LEVEL_AWAIT
