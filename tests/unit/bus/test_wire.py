"""The frame parser: any split of a byte stream gives the same frames, in order; what is not NATS is refused."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.errors import ProtocolError

from dagnats_core.bus.message import FastMessage
from dagnats_core.bus.wire import FastCallback, FrameParser

BLOCK = b"NATS/1.0\r\nA: 1\r\n\r\n"


class Recorder:
    """Stands in for nats-py's client."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        self.calls.append(("msg", sid, subject, reply, data, headers))

    async def _process_ping(self) -> None:
        self.calls.append(("ping",))

    async def _process_pong(self) -> None:
        self.calls.append(("pong",))

    async def _process_info(self, info: dict[str, Any]) -> None:
        self.calls.append(("info", info))

    async def _process_err(self, err_msg: str) -> None:
        self.calls.append(("err", err_msg))


def msg(subject: str, sid: int, data: bytes, reply: str = "", headers: bytes = b"") -> bytes:
    words = f"{subject} {sid} {reply} " if reply else f"{subject} {sid} "
    if headers:
        return f"HMSG {words}{len(headers)} {len(headers) + len(data)}\r\n".encode() + headers + data + b"\r\n"
    return f"MSG {words}{len(data)}\r\n".encode() + data + b"\r\n"


def feed(chunks: list[bytes], callbacks: dict[str, FastCallback] | None = None) -> Recorder:
    recorder = Recorder()
    parser = FrameParser(recorder, callbacks or {})

    async def run() -> None:
        for chunk in chunks:
            await parser.parse(chunk)

    asyncio.run(run())
    return recorder


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]


frames = st.lists(
    st.one_of(
        st.builds(
            lambda data, reply, headers: ("fast", data, reply, headers),
            st.binary(max_size=80),
            st.sampled_from(["", "_INBOX.x.1"]),
            st.sampled_from([b"", BLOCK]),
        ),
        st.builds(lambda data: ("slow", data, "", b""), st.binary(max_size=20)),
        st.just(("ping", b"", "", b"")),
        st.just(("info", b"", "", b"")),
    ),
    max_size=12,
)


@given(frames, st.lists(st.integers(min_value=0, max_value=2000), max_size=30))
def test_any_split_gives_the_same_frames(frames: list[tuple[str, bytes, str, bytes]], cuts: list[int]) -> None:
    wire = b""
    expected_fast, expected_calls = [], []
    for kind, data, reply, headers in frames:
        if kind == "fast":
            wire += msg("a.b", 7, data, reply, headers)
            expected_fast.append(FastMessage("a.b", reply, data, headers))
        elif kind == "slow":
            wire += msg("s", 8, data)
            expected_calls.append(("msg", 8, b"s", b"", data, b""))
        elif kind == "ping":
            wire += b"PING\r\n"
            expected_calls.append(("ping",))
        else:
            wire += b'INFO {"x": 1} \r\n'
            expected_calls.append(("info", {"x": 1}))
    got: list[FastMessage] = []
    recorder = feed(split(wire, cuts), {"7": got.append})
    assert got == expected_fast
    assert recorder.calls == expected_calls


def test_control_lines_reach_the_client() -> None:
    recorder = feed([b"+OK\r\nPONG\r\n-ERR 'Permissions Violation for Publish to \"A.b\"'\r\n"])
    assert recorder.calls == [("pong",), ("err", "'Permissions Violation for Publish to \"A.b\"'")]


@pytest.mark.parametrize("wire", [b"HELLO\r\n", b"MSG a 1 x\r\n", b"HMSG a 1 5 x\r\n", b"MSG \r\n", b"x" * (1 << 21)])
def test_what_is_not_nats_is_refused(wire: bytes) -> None:
    with pytest.raises(ProtocolError):
        feed([wire])


def test_a_callback_that_fails_keeps_the_rest(capfd: pytest.CaptureFixture[str]) -> None:
    got: list[bytes] = []

    def callback(message: FastMessage) -> None:
        if message.data == b"bad":
            raise RuntimeError("planned")
        got.append(message.data)

    feed([msg("a", 1, b"one") + msg("a", 1, b"bad") + msg("a", 1, b"two")], {"1": callback})
    assert got == [b"one", b"two"]


def test_a_subject_that_is_no_text_breaks_nothing() -> None:
    got: list[FastMessage] = []
    feed([b"MSG a.\xff\xfe 1 2\r\nok\r\n" + msg("b", 1, b"x")], {"1": got.append})
    assert [message.data for message in got] == [b"ok", b"x"]


def test_reset_forgets_half_a_frame() -> None:
    got: list[FastMessage] = []
    parser = FrameParser(Recorder(), {"1": got.append})

    async def run() -> None:
        await parser.parse(b"MSG a 1 10\r\nhalf")
        parser.reset()
        await parser.parse(msg("a", 1, b"whole"))

    asyncio.run(run())
    assert [message.data for message in got] == [b"whole"]


def test_a_reset_while_parsing_drops_the_rest_of_the_chunk() -> None:
    class Resetting(Recorder):
        async def _process_err(self, err_msg: str) -> None:
            parser.reset()

    got: list[FastMessage] = []
    parser = FrameParser(Resetting(), {"1": got.append})

    async def run() -> None:
        await parser.parse(b"-ERR 'Stale Connection'\r\nMSG a 1 10\r\nhalf")
        await parser.parse(msg("a", 1, b"whole"))

    asyncio.run(run())
    assert [message.data for message in got] == [b"whole"]
