"""Text generation behind one small Protocol.

- ``base``: requests, completions and the ``Engine`` Protocol
- ``config``: one section per kind of engine, a union on ``type``
- ``vllm_engine``: vLLM, GPU or CPU build; ``watcher`` ends its processes with ours
- ``http_engine``: any OpenAI-compatible endpoint
- ``scripted_engine``: a function instead of a model, for tests and scale experiments

To add one: a section in ``config``, a module beside these, a line in ``open_engine``.
"""

from actors.engine.base import (
    Completion,
    ContextOverflow,
    Engine,
    EngineDied,
    EngineError,
    Finish,
    Piece,
    Request,
    RequestRefused,
    Sampling,
    Turn,
)
from actors.engine.config import EngineConfig, HttpEngineConfig, ScriptedEngineConfig, VllmEngineConfig
from actors.imports import without_collection

__all__ = [
    "Completion",
    "ContextOverflow",
    "Engine",
    "EngineConfig",
    "EngineDied",
    "EngineError",
    "Finish",
    "HttpEngineConfig",
    "Piece",
    "Request",
    "RequestRefused",
    "Sampling",
    "ScriptedEngineConfig",
    "Turn",
    "VllmEngineConfig",
    "open_engine",
]


def open_engine(config: EngineConfig) -> Engine:
    """Start the engine that ``config`` describes; its heavy library is imported here and not before."""
    if isinstance(config, VllmEngineConfig):
        with without_collection():
            from actors.engine.vllm_engine import VllmEngine

        return VllmEngine(config)
    if isinstance(config, HttpEngineConfig):
        from actors.engine.http_engine import HttpEngine

        engine = HttpEngine(config)
        engine.check()
        return engine
    from actors.engine.scripted_engine import ScriptedEngine

    return ScriptedEngine.from_config(config)
