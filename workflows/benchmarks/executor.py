"""The code executor against a fresh interpreter a snippet, and against ``exec`` in this process (no isolation at all)."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from actors import remote
from actors.code_executor import CodeExecutor, CodeRunner, CodeStatus, ExecutorConfig
from actors.remote import Services

TRIVIAL = ("print(1 + 1)",)
SYMPY = ("from sympy import symbols, solve\nx = symbols('x')\nprint(solve(x**2 - 5*x + 6, x))",)
CRITIQUE = (
    "from sympy import symbols, expand, Rational\nx = symbols('x')\nleft = expand((x + 2) * (x - 3))\nprint(left)",
    "right = x**2 - x - 6\nprint((left - right).expand() == 0)",
    "print(left.subs(x, Rational(1, 2)), sum(int(d) for d in str(2**50)))",
)
SNIPPETS = {"print": TRIVIAL, "sympy solve": SYMPY, "critique of 3 blocks": CRITIQUE}
COLD_RUNS, WARM_RUNS, IN_FLIGHT = 7, 60, 16


def cold_s(blocks: Sequence[str]) -> float:
    """Median seconds of a new interpreter that runs the blocks."""

    def once() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-I", "-c", "\n".join(blocks)], check=True, capture_output=True)
        return time.perf_counter() - began

    once()
    return statistics.median(once() for _ in range(COLD_RUNS))


def in_process_s(blocks: Sequence[str]) -> float:
    """Median seconds of ``exec`` with the libraries imported."""

    def once() -> float:
        names: dict[str, object] = {}
        began = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            for block in blocks:
                exec(block, names)
        return time.perf_counter() - began

    once()
    return statistics.median(once() for _ in range(WARM_RUNS))


async def session_s(runner: CodeRunner, blocks: Sequence[str]) -> list[float]:
    """Seconds from opening a session to its first result, then of each further block."""
    began = time.perf_counter()
    session = await runner.open()
    seconds = []
    for block in blocks:
        result = await runner.run(session, block)
        if result.status is not CodeStatus.OK:
            raise RuntimeError(f"{block!r} gave {result}")
        seconds.append(time.perf_counter() - began)
        began = time.perf_counter()
    await runner.close(session)
    return seconds


async def rate(runner: CodeRunner, blocks: Sequence[str], number: int) -> float:
    """Sessions a second with some in flight."""
    await asyncio.gather(*(session_s(runner, blocks) for _ in range(IN_FLIGHT)))
    left = iter(range(number))
    began = time.perf_counter()

    async def work() -> None:
        for _ in left:
            await session_s(runner, blocks)

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return number / (time.perf_counter() - began)


async def private_mib(executor: CodeExecutor, blocks: Sequence[str], number: int = 20) -> float | None:
    """Median private memory of a session after its blocks; None where the kernel does not let us look."""
    sessions = [await executor.open() for _ in range(number)]
    for session in sessions:
        for block in blocks:
            await executor.run(session, block)
    sizes = []
    for descriptor in os.listdir("/proc/self/fdinfo"):
        with contextlib.suppress(OSError):
            pid = re.search(r"^Pid:\s*(\d+)$", Path("/proc/self/fdinfo", descriptor).read_text(), re.MULTILINE)
            if pid is not None:
                rollup = Path("/proc", pid.group(1), "smaps_rollup").read_text()
                sizes.append(sum(int(size) for size in re.findall(r"^Private_\w+:\s*(\d+) kB", rollup, re.MULTILINE)) / 1024)
    for session in sessions:
        await executor.close(session)
    return statistics.median(sizes) if sizes else None


async def measure(config: ExecutorConfig, num_sessions: int) -> dict[str, object]:
    """Everything that needs no Ray, said line by line."""
    cold = {name: cold_s(blocks) for name, blocks in SNIPPETS.items()}
    bare = {name: in_process_s(blocks) for name, blocks in SNIPPETS.items()}
    result: dict[str, object] = {}
    for cpus in (1, 2):
        executor = CodeExecutor(config.model_copy(update={"num_cpus": cpus}))
        await executor.start()
        assert executor.isolation is not None
        if cpus == 1:
            first, later = {}, []
            for name, blocks in SNIPPETS.items():
                runs = [await session_s(executor, blocks) for _ in range(WARM_RUNS)]
                first[name] = statistics.median(run[0] for run in runs)
                print(
                    f"{name}: fresh interpreter {1e3 * cold[name]:.1f} ms, exec in this process {1e3 * bare[name]:.2f} ms, "
                    f"ours {1e3 * statistics.median(sum(run) for run in runs):.1f} ms",
                    flush=True,
                )
            session = await executor.open()
            await executor.run(session, "x = 1")
            for _ in range(WARM_RUNS):
                began = time.perf_counter()
                await executor.run(session, "print(x + 1)")
                later.append(time.perf_counter() - began)
            await executor.close(session)
            memory = await private_mib(executor, SYMPY)
            result |= {
                "tier": executor.isolation.tier.value,
                "vs_cold_sympy": round(cold["sympy solve"] / first["sympy solve"], 1),
                "first_result_ms": round(1e3 * first["print"], 2),
                "first_sympy_result_ms": round(1e3 * first["sympy solve"], 2),
                "later_block_ms": round(1e3 * statistics.median(later), 3),
                "mb_per_session": round(memory * 1.048576, 1) if memory is not None else None,
            }
            print(f"a later block: {result['later_block_ms']} ms; private memory after a solve: {result['mb_per_session']} MB", flush=True)
        for name, blocks in SNIPPETS.items():
            print(f"{name}, {cpus} at a time: {await rate(executor, blocks, num_sessions):,.0f} sessions/s", flush=True)
        await executor.shutdown()
    return result


def executor_benchmark(
    config: ExecutorConfig, num_sessions: int, connected: Callable[[], contextlib.AbstractContextManager[None]]
) -> dict[str, object]:
    """Prints the figures; ``connected`` is Ray, for the part that goes through its actors."""
    result = asyncio.run(measure(config, num_sessions))
    with connected():
        through_ray = {
            name: _rate_through_ray(config.model_copy(update={"num_cpus": 2}), blocks, num_sessions) for name, blocks in SNIPPETS.items()
        }
    for name, sessions in through_ray.items():
        print(f"{name}, through a Ray actor of 2 CPUs: {sessions:,.0f} sessions/s", flush=True)
    result |= {"sessions_per_s": round(through_ray["print"], 1), "sympy_sessions_per_s": round(through_ray["sympy solve"], 1)}
    return {"benchmark": "executor", **result}


def _rate_through_ray(config: ExecutorConfig, blocks: Sequence[str], num_sessions: int) -> float:
    handles = remote.start(Services(executors=config))
    try:

        async def run() -> float:
            return await rate(handles.runner(), blocks, num_sessions)

        return asyncio.run(run())
    finally:
        remote.stop(handles)
