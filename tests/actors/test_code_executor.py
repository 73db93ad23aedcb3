import asyncio
import os
from pathlib import Path
from typing import Any

from actors.code_executor import CodeExecutor, CodeResult, CodeStatus, ExecutorConfig


def in_session(blocks: list[str], **limits: Any) -> list[CodeResult]:
    async def run() -> list[CodeResult]:
        executor = CodeExecutor(ExecutorConfig(**limits))
        session = await executor.open()
        results = [await executor.run(session, block) for block in blocks]
        await executor.close(session)
        return results

    return asyncio.run(run())


def test_names_persist_within_a_session_only() -> None:
    assert [result.text for result in in_session(["x = 41", "print(x + 1)"])] == ["", "42"]
    assert in_session(["print(x)"])[0].text == "NameError: name 'x' is not defined"


def test_output_before_an_error_is_kept() -> None:
    result = in_session(["print('before')\n1 / 0"])[0]
    assert (result.status, result.text) == (CodeStatus.ERROR, "before\nZeroDivisionError: division by zero")


def test_exit_and_syntax_errors_are_results() -> None:
    results = in_session(["import sys; sys.exit(3)", "print(", "print('still here')"])
    assert [result.status for result in results] == [CodeStatus.OK, CodeStatus.ERROR, CodeStatus.OK]
    assert results[2].text == "still here"


def test_an_endless_loop_ends_and_the_next_block_runs_in_a_new_process() -> None:
    results = in_session(["x = 1", "while True: pass", "print('x' in globals())"], timeout_s=1.0)
    assert [result.status for result in results] == [CodeStatus.OK, CodeStatus.TIMEOUT, CodeStatus.OK]
    assert results[2].text == "False"


def test_the_whole_process_group_dies_with_the_session() -> None:
    code = "import subprocess, os\np = subprocess.Popen(['sleep', '1000'])\nprint(p.pid)"
    pid = int(in_session([code])[0].text)
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]


def test_output_is_capped() -> None:
    result = in_session(["print('a' * 10_000_000)"], max_output_chars=100)[0]
    assert result.text == "a" * 100 + "\n... (output cut)"


def test_a_process_that_kills_itself_or_writes_into_the_pipe_is_a_result() -> None:
    scribble = "import os\nfor fd in range(3, 30):\n    try: os.write(fd, b'junk\\n')\n    except OSError: pass"
    blocks = ["import os; os.kill(os.getpid(), 9)", "print(1)", scribble]
    results = in_session(blocks)
    assert [result.status for result in results] == [CodeStatus.DIED, CodeStatus.OK, CodeStatus.DIED]


def test_the_environment_does_not_reach_the_code() -> None:
    os.environ["GENPRM_TEST_SECRET"] = "s3cret"
    try:
        assert in_session(["import os; print(os.environ.get('GENPRM_TEST_SECRET'))"])[0].text == "None"
    finally:
        del os.environ["GENPRM_TEST_SECRET"]


def test_sessions_run_side_by_side_and_leave_nothing() -> None:
    before = {path.name for path in Path("/tmp").glob("genprm-code-*")}

    async def many() -> list[str]:
        executor = CodeExecutor(ExecutorConfig())

        async def one(number: int) -> str:
            session = await executor.open()
            await executor.run(session, f"n = {number}")
            text = (await executor.run(session, "print(n * n)")).text
            await executor.close(session)
            return text

        return list(await asyncio.gather(*(one(number) for number in range(12))))

    assert asyncio.run(many()) == [str(number * number) for number in range(12)]
    assert {path.name for path in Path("/tmp").glob("genprm-code-*")} <= before
