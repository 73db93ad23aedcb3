"""What a session does for honest code, and what it says of the rest."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest

from actors.code_executor import CodeExecutor, CodeResult, CodeStatus, ExecutorConfig

Answer = TypeVar("Answer")


RUNNER = asyncio.Runner()
EXECUTORS: dict[str, CodeExecutor] = {}
"""One for each configuration, since each takes a second to start."""


@pytest.fixture(scope="module", autouse=True)
def shut_down() -> Iterator[None]:
    yield
    for executor in EXECUTORS.values():
        RUNNER.run(executor.shutdown())
    RUNNER.close()


def with_executor(work: Callable[[CodeExecutor], Awaitable[Answer]], **limits: Any) -> Answer:
    async def run() -> Answer:
        executor = EXECUTORS.setdefault(repr(sorted(limits.items())), CodeExecutor(ExecutorConfig(**limits)))
        return await work(executor)

    return RUNNER.run(run())


def in_session(blocks: list[str], **limits: Any) -> list[CodeResult]:
    async def work(executor: CodeExecutor) -> list[CodeResult]:
        session = await executor.open()
        results = [await executor.run(session, block) for block in blocks]
        await executor.close(session)
        return results

    return with_executor(work, **limits)


def test_names_persist_within_a_session_only() -> None:
    async def work(executor: CodeExecutor) -> list[str]:
        one, other = await executor.open(), await executor.open()
        texts = [await executor.run(one, "x = 41"), await executor.run(one, "print(x + 1)"), await executor.run(other, "print(x)")]
        return [result.text for result in texts]

    assert with_executor(work) == ["", "42", "NameError: name 'x' is not defined"]


def test_a_block_that_leaves_says_what_python_would_show() -> None:
    blocks = [
        "raise SystemExit('mismatch: 12 != 13')",
        "import sys; print('a'); sys.exit('b')",
        "sys.exit(1)",
        "class E(Exception):\n    def __str__(self): raise SystemExit(1)\nraise E()",
        "class F:\n    def __str__(self): raise ValueError\nsys.exit(F())",
    ]
    results = in_session(blocks)
    assert [result.text for result in results[:3]] == ["mismatch: 12 != 13", "a\nb", ""]
    assert [result.status for result in results] == [CodeStatus.OK] * 3 + [CodeStatus.ERROR] * 2
    assert results[3].text.startswith("E: ")


def test_results_of_all_kinds() -> None:
    results = in_session(
        [
            "print('before')\n1 / 0",
            "import sys; print('a'); sys.exit(3)",
            "print(",
            "class Odd(Exception): pass\nraise Odd('why')",
            "raise KeyError('k')",
            "def f(): return f()\nf()",
            "exit()",
            "import ray",
            "input()",
            "print('still here')",
        ]
    )
    assert [(result.status, result.text) for result in results] == [
        (CodeStatus.ERROR, "before\nZeroDivisionError: division by zero"),
        (CodeStatus.OK, "a"),
        (CodeStatus.ERROR, "SyntaxError: '(' was never closed"),
        (CodeStatus.ERROR, "Odd: why"),
        (CodeStatus.ERROR, "KeyError: 'k'"),
        (CodeStatus.ERROR, "RecursionError: maximum recursion depth exceeded"),
        (CodeStatus.OK, ""),
        (CodeStatus.ERROR, "ModuleNotFoundError: No module named 'ray'"),
        (CodeStatus.ERROR, "EOFError: EOF when reading a line"),
        (CodeStatus.OK, "still here"),
    ]
    assert results[0].error_type == "ZeroDivisionError"
    assert all(result.state_kept and result.num_replayed == 0 for result in results)


def test_the_libraries_work() -> None:
    results = in_session(
        [
            "import numpy as np\nprint(np.linalg.det(np.array([[1.0, 2.0], [3.0, 4.0]])).round(6))",
            "from sympy import symbols, solve\nx = symbols('x')\nprint(solve(x**2 - 2, x))",
            "from scipy.integrate import quad\nprint(round(quad(lambda t: t**2, 0, 1)[0], 6))",
            "import mpmath\nmpmath.mp.dps = 30\nprint(mpmath.pi)",
            "import fractions, decimal, statistics, hashlib, sqlite3, ctypes\nprint(hashlib.sha256(b'a').hexdigest()[:8])",
            "from concurrent.futures import ThreadPoolExecutor\nprint(list(ThreadPoolExecutor(2).map(abs, [-1, -2])))",
            "open('notes', 'w').write('kept')\nprint(open('notes').read())",
            "import asyncio\nasync def f(): return 5\nprint(asyncio.run(f()))",
        ]
    )
    assert [result.text for result in results] == [
        "-2.0",
        "[-sqrt(2), sqrt(2)]",
        "0.333333",
        "3.14159265358979323846264338328",
        "ca978112",
        "[1, 2]",
        "kept",
        "5",
    ]
    assert all(0 <= result.cpu_s < 5 and result.peak_mib > 20 for result in results)
    assert sum(result.cpu_s for result in results) > 0


def test_a_loop_that_can_be_interrupted_keeps_its_session() -> None:
    results = in_session(["x = 1", "print('begun')\nwhile True: pass", "print(x)"], timeout_s=0.5)
    assert [(result.status, result.text) for result in results] == [
        (CodeStatus.OK, ""),
        (CodeStatus.TIMEOUT, "begun\nError: timed out after 0.5 s"),
        (CodeStatus.OK, "1"),
    ]
    assert results[1].state_kept
    assert results[2].num_replayed == 0
    assert 0.5 <= results[1].wall_s < 1.0


def test_after_a_hard_kill_the_successful_blocks_are_run_again() -> None:
    blocks = ["x = 20", "y = 22\n1 / 0", "print('once'); x += 1", "print(sum(range(10**12)))", "print(x, 'y' in globals())", "print(x)"]
    results = in_session(blocks, timeout_s=0.5)
    assert results[3].status is CodeStatus.TIMEOUT
    assert not results[3].state_kept
    assert (results[4].text, results[4].num_replayed) == ("21 False", 2)
    assert (results[5].text, results[5].num_replayed) == ("21", 0)


def test_a_process_that_kills_itself_is_a_result() -> None:
    results = in_session(["x = 7", "print('bye', flush=True)\nimport os; os._exit(0)", "print(x)"])
    assert (results[1].status, results[1].text) == (CodeStatus.KILLED, "bye\nError: the process died")
    assert (results[2].text, results[2].num_replayed) == ("7", 1)


def test_output_is_cut_and_a_flood_ends_the_session() -> None:
    results = in_session(["print('a' * 1_000_000)", "while True: print('a' * 10_000)"], max_output_chars=100)
    assert results[0].text == "a" * 100 + "\n... (output cut)"
    assert (results[1].status, results[1].state_kept) == (CodeStatus.OUTPUT_LIMIT, False)
    assert results[1].text == "a" * 100 + "\n... (output cut)\nError: too much output"


def test_memory_and_scratch_are_limited() -> None:
    fill = "for i in range(3):\n    with open(f'f{i}', 'wb') as f:\n        for _ in range(7): f.write(b'x' * (1 << 20))\n"
    results = in_session(["x = bytearray(500 << 20)", f"{fill}import time; time.sleep(3)"], memory_mib=256, scratch_mib=8)
    assert (results[0].status, results[0].text) == (CodeStatus.ERROR, "MemoryError")
    assert (results[1].status, results[1].state_kept) == (CodeStatus.KILLED, False)


def test_a_quick_block_is_measured_at_its_end() -> None:
    fill = "for name in 'abcd': open(name, 'wb').write(b'x' * (7 << 20))"
    (result,) = in_session([fill], scratch_mib=8)
    assert (result.status, result.state_kept) == (CodeStatus.KILLED, False)


HIDE = """
import os
for _ in range(40):
    os.mkdir('d' * 200); os.chdir('d' * 200)
for n in range(5000): os.mkdir(str(n))
"""


def test_entries_that_no_path_reaches_are_counted() -> None:
    (result,) = in_session([HIDE], timeout_s=20.0)
    assert (result.status, result.state_kept) == (CodeStatus.KILLED, False)


def test_room_can_not_be_reserved_unwritten() -> None:
    (result,) = in_session(["import os\nos.posix_fallocate(os.open('f', os.O_CREAT | os.O_RDWR), 0, 1 << 20)"])
    assert (result.status, result.error_type) == (CodeStatus.ERROR, "OSError")


def test_nothing_runs_between_blocks() -> None:
    """A thread that sends SIGCONT to its process all the time would undo the stop."""
    restless = """
import os, threading, time
gap = 0.0
def run():
    global gap
    last = time.monotonic()
    while True:
        try: os.kill(os.getpid(), 18)
        except PermissionError: pass
        now = time.monotonic()
        gap, last = max(gap, now - last), now
for _ in range(4): threading.Thread(target=run, daemon=True).start()
"""

    async def work(executor: CodeExecutor) -> CodeResult:
        session = await executor.open()
        await executor.run(session, restless)
        await asyncio.sleep(0.6)
        return await executor.run(session, "time.sleep(0.1); print(gap)")

    assert float(with_executor(work).text) > 0.4


def test_threads_are_limited() -> None:
    many = """
import threading, time
threading.stack_size(32768)
try:
    for n in range(4000): threading.Thread(target=time.sleep, args=(9,), daemon=True).start()
except RuntimeError: pass
print(n)
"""

    async def work(executor: CodeExecutor) -> tuple[str, bool]:
        result = await executor.run(await executor.open(), many)
        assert executor.isolation is not None
        return result.text, executor.isolation.layers["uid"]

    started, own_uid = with_executor(work)
    if own_uid:
        assert int(started) < 64
    elif os.geteuid() != 0:  # root itself is not counted
        assert int(started) < 2000


def test_a_history_that_does_not_run_again_is_given_up_and_said() -> None:
    """What a block leaves outside its session can't be told from inside, so the first one looks at the clock."""

    async def work(executor: CodeExecutor) -> list[CodeResult]:
        session = await executor.open()
        until = time.time() + 1.0
        once = f"import os, time\nif time.time() > {until}: os._exit(1)\nx = 1"
        results = [await executor.run(session, once)]
        await asyncio.sleep(1.0)
        for block in ("os._exit(0)", "print('x' in globals())", "y = 2", "print(y)"):
            results.append(await executor.run(session, block))
        return results

    results = with_executor(work)
    assert [result.status for result in results[:2]] == [CodeStatus.OK, CodeStatus.KILLED]
    assert (results[2].status, results[2].text, results[2].state_kept) == (CodeStatus.OK, "False", False)
    assert (results[4].text, results[4].state_kept) == ("2", True)


def test_the_environment_does_not_reach_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENPRM_TEST_SECRET", "s3cret")
    (result,) = in_session(["import os; print(os.environ.get('GENPRM_TEST_SECRET'), sorted(os.environ)[:3])"])
    assert result.text.startswith("None")


def test_sessions_run_side_by_side_even_if_fewer_processes_may_live() -> None:
    async def work(executor: CodeExecutor) -> tuple[list[str], int]:
        async def one(number: int) -> tuple[str, int]:
            session = await executor.open()
            await executor.run(session, f"n = {number}")
            await asyncio.sleep(0.01 * (number % 3))
            result = await executor.run(session, "print(n * n)")
            await executor.close(session)
            return result.text, result.num_replayed

        results = await asyncio.gather(*(one(number) for number in range(12)))
        return [text for text, _ in results], sum(replayed for _, replayed in results)

    texts, replayed = with_executor(work, max_sessions=4, num_cpus=2)
    assert texts == [str(number * number) for number in range(12)]
    assert replayed > 0


def test_more_sessions_than_may_live_take_turns() -> None:
    async def work(executor: CodeExecutor) -> int:
        most = 0

        async def one(number: int) -> None:
            nonlocal most
            session = await executor.open()
            result = await executor.run(session, f"import time; time.sleep(0.02); print({number})")
            most = max(most, (await executor.state()).num_processes)
            assert result.text == str(number)

        await asyncio.gather(*(one(number) for number in range(16)))
        return most

    assert 1 <= with_executor(work, num_cpus=1, max_sessions=4) <= 4


def test_blocks_beyond_the_reserved_cpus_wait() -> None:
    async def work(executor: CodeExecutor) -> float:
        sessions = [await executor.open() for _ in range(3)]
        await asyncio.gather(*(executor.run(session, "pass") for session in sessions))
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(executor.run(session, "import time; time.sleep(0.3)") for session in sessions))
        return asyncio.get_running_loop().time() - began

    assert with_executor(work, num_cpus=1) >= 0.9
