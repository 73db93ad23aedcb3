"""Runs model-written Python, one session a critique.

- ``executor``: ``CodeExecutor``, which owns the sessions; its interface is open, run, close
- ``child``: what runs inside a session's process

This first version bounds time, output and memory and kills a session's whole process group. It does not yet hide the
machine from the code: run it where model-written code may run.
"""

from actors.code_executor.config import ExecutorConfig
from actors.code_executor.executor import CodeExecutor, CodeResult, CodeRunner, CodeStatus

__all__ = ["CodeExecutor", "CodeResult", "CodeRunner", "CodeStatus", "ExecutorConfig"]
