"""The method as pure functions and records: no Ray, no vLLM, no torch, no I/O, no processes."""

__version__ = "0.1.0"
"""The project's version; pyproject.toml has the same."""
