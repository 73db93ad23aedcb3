"""Whatever bytes a session writes, the executor neither raises nor waits beyond its limits."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.code_executor import session_process
from actors.code_executor.session_process import ALIVE_AFTER, LONGEST_FRAME, Ending, Raw, SessionProcess

SOFT_S = 0.05


@pytest.fixture(autouse=True, scope="module")
def short_grace() -> Iterator[None]:
    """Many of these blocks never end, and each waits that long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session_process, "GRACE_S", 0.05)
        yield


@contextmanager
def pipes() -> Iterator[tuple[int, ...]]:
    """(our command end, result read, output read, their command end, result write, output write)"""
    ends = [os.pipe() for _ in range(3)]
    (command_read, command_write), (result_read, result_write), (output_read, output_write) = ends
    try:
        yield command_write, result_read, output_read, command_read, result_write, output_write
    finally:
        for descriptor in (command_read, result_write, output_write):
            os.close(descriptor)


def answered(results: bytes, output: bytes = b"", *, limit: int = 1000) -> Raw:
    """What a run gives when the session writes these bytes and then only waits."""

    async def run() -> Raw:
        child = subprocess.Popen(["sleep", "60"])
        try:
            with pipes() as (commands, result_read, output_read, _, result_write, output_write):
                process = SessionProcess(
                    number=0,
                    pid=child.pid,
                    pidfd=os.pidfd_open(child.pid),
                    commands=commands,
                    results=result_read,
                    output=output_read,
                    uid=None,
                )
                loop = asyncio.get_running_loop()
                loop.call_later(SOFT_S / 10, os.write, output_write, output[: 1 << 15])
                loop.call_later(SOFT_S / 5, os.write, result_write, results[: 1 << 15])
                raw = await process.run("pass", soft_s=SOFT_S, keep_bytes=100, limit_bytes=limit)
                assert process.alive == (raw.ending in ALIVE_AFTER)
                process.close()
                return raw
        finally:
            child.kill()
            child.wait()

    return asyncio.run(run())


def frame(value: object) -> bytes:
    data = json.dumps(value).encode()
    return len(data).to_bytes(4, "big") + data


patient = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@patient
@given(st.binary(max_size=200), st.binary(max_size=200))
def test_arbitrary_bytes(results: bytes, output: bytes) -> None:
    raw = answered(results, output)
    assert raw.ending in (Ending.PROTOCOL, Ending.HARD_TIMEOUT)
    assert len(raw.output) <= 100


@patient
@given(json_values)
def test_arbitrary_frames(value: object) -> None:
    raw = answered(frame(value))
    assert raw.ending is Ending.PROTOCOL


@patient
@given(status=json_values, kind=json_values, message=json_values, cpu=json_values, peak=json_values)
def test_arbitrary_fields_are_clamped(status: object, kind: object, message: object, cpu: object, peak: object) -> None:
    raw = answered(frame({"id": 1, "status": status, "type": kind, "message": message, "cpu_s": cpu, "peak_kib": peak}))
    assert raw.ending is (Ending(status) if status in ("ok", "error", "timeout") else Ending.PROTOCOL)
    assert isinstance(raw.message, str)
    assert 0 <= raw.cpu_s <= 1e6
    assert raw.peak_mib >= 0


@pytest.mark.parametrize(
    ("results", "ending"),
    [
        (frame({"id": 1, "status": "ok"}), Ending.OK),
        (frame({"id": 2, "status": "ok"}), Ending.PROTOCOL),
        (frame({"id": 1, "status": "ok"}) * 2, Ending.PROTOCOL),
        (b"\xff\xff\xff\xff", Ending.PROTOCOL),
        ((LONGEST_FRAME + 1).to_bytes(4, "big"), Ending.PROTOCOL),
        ((20_000).to_bytes(4, "big") + b"[" * 20_000, Ending.PROTOCOL),
        (b"\x00\x00", Ending.HARD_TIMEOUT),
        (b"", Ending.HARD_TIMEOUT),
    ],
)
def test_forged_frames(results: bytes, ending: Ending) -> None:
    began = time.monotonic()
    assert answered(results).ending is ending
    assert time.monotonic() - began < 3


def test_too_much_output_ends_the_session() -> None:
    assert answered(b"", b"x" * 2000).ending is Ending.OUTPUT_LIMIT
