"""Parts against the bare libraries under them, on the same work, in one run: ``python -m jobs.benchmark <name>``."""
