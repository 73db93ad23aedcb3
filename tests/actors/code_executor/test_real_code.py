"""Code that a model really wrote, against the output recorded with it."""

from __future__ import annotations

import asyncio
import json
import re

from actors.code_executor import CodeExecutor, ExecutorConfig
from tests.shared_data import shared

BLOCK = re.compile(r"```python\n(.*?)```(?:\n```output\n(.*?)```)?", re.DOTALL)


def test_every_recorded_output_is_reproduced() -> None:
    """200 blocks in 200 answers of ToRA-70B to GSM8K; the last text of one ends before its output, so that 199 can be compared."""
    rows = [json.loads(line) for line in shared("transcripts/tora70b_gsm8k_code.jsonl").read_text().splitlines()]
    blocks = [found for row in rows for text in row["code"] for found in BLOCK.findall(text)]

    async def outputs() -> list[str]:
        executor = CodeExecutor(ExecutorConfig(num_cpus=2))

        async def one(code: str) -> str:
            session = await executor.open()
            result = await executor.run(session, code)
            await executor.close(session)
            return result.text

        try:
            return list(await asyncio.gather(*(one(code) for code, _ in blocks)))
        finally:
            await executor.shutdown()

    got = asyncio.run(outputs())
    recorded = [(text, output.strip()) for text, (_, output) in zip(got, blocks, strict=True) if output]
    assert (len(blocks), len(recorded)) == (200, 199)
    assert [pair for pair in recorded if pair[0] != pair[1]] == []
