"""The workers: a plain class each, one heavy resource each.

- ``engine/``: text generation (vLLM, HTTP endpoints, scripts)
- ``policy``, ``estimator``, ``rationalizer``, ``verifier``: who writes and who judges; ``code_turns``: turns with pauses for code
- ``code_executor/``: the sandbox; ``grading/``: answers against references; ``training/``: DeepSpeed
- ``prm``: the verifier from Python, without Ray
- ``remote``: engines and executors as Ray actors, the one file here that knows Ray
- ``models``: where a model is and what identifies it; ``together``: work side by side that ends together
"""
