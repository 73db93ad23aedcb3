"""The method as pure functions and records: no Ray, no vLLM, no torch, no I/O."""
