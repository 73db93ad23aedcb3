"""Runs model-written Python, contained: a session for each critique, its names kept from block to block.

- ``executor``: ``CodeExecutor``, which owns the sessions; ``runner``: its interface (open, run, close) and its results
- ``server``: the trusted side of the fork server; ``session_process``: of one session
- ``inside``: all that runs on the untrusted side
- ``isolation``: which layers are in force, found out by ``attacks``; ``config.Tier`` is the result
- ``libraries``: what sessions may read and import; ``text``: what the model gets to see
- ``containment``: runs files of hostile snippets (``python -m actors.code_executor --snippets FILE``)
"""

from actors.code_executor.config import ExecutorConfig, Tier
from actors.code_executor.executor import CodeExecutor, ExecutorState
from actors.code_executor.runner import CodeRefused, CodeResult, CodeRunner, CodeStatus

__all__ = ["CodeExecutor", "CodeRefused", "CodeResult", "CodeRunner", "CodeStatus", "ExecutorConfig", "ExecutorState", "Tier"]
