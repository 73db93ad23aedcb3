"""Nothing is lost and nothing is left when a part is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from actors.code_executor import CodeExecutor, CodeStatus, ExecutorConfig, executor
from actors.code_executor.inside.scratch import PREFIX, UNCOUNTED, own_folder, remove_tree, sweep, usage
from actors.code_executor.server import ForkServer, ServerDied

SMALL = {"libraries": ("mpmath",), "preload": ("mpmath",)}
STUBBORN = "import signal\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n    except Exception: pass\nwhile True: pass"
OWNER = f"""
import asyncio, sys
from actors.code_executor import CodeExecutor, ExecutorConfig
async def main():
    limits = dict(libraries=("mpmath",), preload=(), num_cpus=3, timeout_s=60)
    executor = CodeExecutor(ExecutorConfig(scratch_dir=sys.argv[1], namespaces=sys.argv[2] == "yes", **limits))
    sessions = [await executor.open() for _ in range(3)]
    for session in sessions:
        await executor.run(session, "open('file', 'w').write('x')")
    runs = [asyncio.create_task(executor.run(session, {STUBBORN!r})) for session in sessions]
    await asyncio.sleep(0.5)
    print("ready", flush=True)
    await asyncio.gather(*runs)
asyncio.run(main())
"""


def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_spares_are_made_at_the_start_before_anyone_asks() -> None:
    def processes(spares: int) -> int:
        async def count() -> int:
            code = CodeExecutor(ExecutorConfig(**SMALL, spares=spares))  # type: ignore[arg-type]
            await code.start()
            server = (await code.state()).fork_server_pid
            assert server is not None
            await asyncio.sleep(2)
            number = len(psutil.Process(server).children())
            await code.shutdown()
            return number

        return asyncio.run(count())

    assert (processes(0), processes(3)) == (0, 3)


def gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True


@pytest.mark.parametrize("namespaces", ["yes", "no"])
def test_a_killed_executor_leaves_no_process_and_no_folder(tmp_path: Path, namespaces: str) -> None:
    tmp_path.chmod(0o755)
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path), namespaces], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    assert owner.stdout.readline().strip() == "ready"
    family = [child.pid for child in psutil.Process(owner.pid).children(recursive=True)]
    assert len(family) >= 4
    owner.kill()
    owner.wait()
    owner.stdout.close()
    assert eventually(lambda: all(gone(pid) for pid in family))
    assert eventually(lambda: not list(tmp_path.glob(f"{PREFIX}*")))


def test_a_killed_fork_server_is_replaced_and_sessions_go_on() -> None:
    async def run() -> None:
        code = CodeExecutor(ExecutorConfig(**SMALL, num_cpus=2))  # type: ignore[arg-type]
        try:
            session = await code.open()
            await code.run(session, "x = 5")
            killed: set[int] = set()
            for _ in range(3):
                busy = asyncio.create_task(code.run(session, "import time; time.sleep(0.2); x += 1; print(x)"))
                await asyncio.sleep(0.1)
                while code.fork_server is None or code.fork_server.pid in killed:  # the new one is not there yet
                    await asyncio.sleep(0.05)
                os.kill(code.fork_server.pid, signal.SIGKILL)
                killed.add(code.fork_server.pid)
                result = await busy
                assert result.status is CodeStatus.OK
            assert (await code.run(session, "print(x)")).text == "8"
        finally:
            await code.shutdown()

    asyncio.run(run())


def test_a_session_that_rests_for_long_gives_its_process_back() -> None:
    async def run() -> None:
        code = CodeExecutor(ExecutorConfig(**SMALL, idle_s=0.2))  # type: ignore[arg-type]
        try:
            session = await code.open()
            await code.run(session, "x = 5")
            assert (await code.state()).num_processes == 1
            for _ in range(100):
                if (await code.state()).num_processes == 0:
                    break
                await asyncio.sleep(0.05)
            assert (await code.state()).num_processes == 0
            result = await code.run(session, "print(x)")
            assert (result.text, result.num_replayed) == ("5", 1)
        finally:
            await code.shutdown()

    asyncio.run(run())


def test_a_session_closed_while_its_process_is_made_leaves_none() -> None:
    async def run() -> None:
        code = CodeExecutor(ExecutorConfig(**SMALL, num_cpus=2, spares=0))  # type: ignore[arg-type]
        try:
            await code.start()
            for pause_s in (0.0, 0.001, 0.002, 0.004, 0.008):
                session = await code.open()
                busy = asyncio.create_task(code.run(session, "print(1)"))
                await asyncio.sleep(pause_s)
                await code.close(session)
                assert (await busy).status in (CodeStatus.REFUSED, CodeStatus.KILLED, CodeStatus.OK)
            state = await code.state()
            assert (state.num_sessions, state.num_processes) == (0, 0)
        finally:
            await code.shutdown()

    asyncio.run(run())


def test_a_cancelled_block_is_stopped_and_costs_the_session_nothing_else() -> None:
    async def run() -> None:
        code = CodeExecutor(ExecutorConfig(**SMALL))  # type: ignore[arg-type]
        try:
            session = await code.open()
            await code.run(session, "x = 5")
            busy = asyncio.create_task(code.run(session, "while True: pass"))
            await asyncio.sleep(0.2)
            busy.cancel()
            await asyncio.gather(busy, return_exceptions=True)
            result = await code.run(session, "print(x)")
            assert (result.status, result.text, result.num_replayed) == (CodeStatus.OK, "5", 1)
        finally:
            await code.shutdown()

    asyncio.run(run())


def test_a_fork_server_that_can_not_be_started_any_more_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> ForkServer:
        raise ServerDied("no more")

    async def run() -> None:
        code = CodeExecutor(ExecutorConfig(**SMALL, spares=0))  # type: ignore[arg-type]
        session = await code.open()
        assert code.fork_server is not None
        await code.fork_server.close()
        monkeypatch.setattr(ForkServer, "start", fail)
        monkeypatch.setattr(executor, "FIRST_PAUSE_S", 0.01)
        result = await code.run(session, "print(1)")
        assert result.status is CodeStatus.REFUSED
        assert "could not be started" in result.text

    asyncio.run(run())


def test_stale_folders_are_swept_and_living_ones_kept(tmp_path: Path) -> None:
    script = f"from actors.code_executor.inside.scratch import own_folder; print(own_folder({str(tmp_path)!r}))"
    stale = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    ours = own_folder(str(tmp_path))
    foreign = tmp_path / f"{PREFIX}foreign"
    foreign.mkdir()
    assert Path(stale).is_dir()
    sweep(str(tmp_path))
    assert not Path(stale).exists()
    assert Path(ours).is_dir()
    assert foreign.is_dir()


def test_any_tree_is_measured_and_removed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / ".removed-1").mkdir()
    (root / ".removed-1" / "file").write_bytes(b"x" * 8192)
    (root / "link").symlink_to(tmp_path)
    (root / "shut").mkdir(mode=0)
    size, files = usage(str(root))
    assert (size >= 8192, files) == (True, 4)
    before = os.getcwd()
    try:
        os.chdir(root)
        for _ in range(1500):
            os.mkdir("d")
            os.chdir("d")
    finally:
        os.chdir(before)
    (root / "locked").mkdir()
    (root / "locked" / "file").touch()
    (root / "locked").chmod(0)
    assert usage(str(root))[1] == UNCOUNTED
    remove_tree(str(root))
    assert not root.exists()
    assert tmp_path.is_dir()
