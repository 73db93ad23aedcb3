"""From problems to scores: which stage reads what, runs which worker, writes what.

- ``synthesis``: problems, rollouts, solutions, estimates, labels, rationales, conversations; ``synthesis_workers``: what runs for a row
- ``training``: conversations to a checkpoint, exported in Hugging Face format
- ``evaluation``: benchmarks judged by verifiers
- ``search``: best-of-N and critic
- ``config``: the one tree of all settings; ``sections``: the workflows' own
- ``models``: models that the run trains itself; ``sampling``: samples of bounded size
- ``report``: results as tables, a page and pictures
- ``stage/``: the mechanism that all stages share
- ``inputs/``: problems, solutions, benchmarks and critiques from files
- ``planning/``: what a run costs before it is made; ``status``: what it has cost and how far it is
- ``stages``: all stages of a configuration
- ``demo/``: the demo, and the making of its tiny models
- ``benchmarks/``: parts against the bare libraries under them
"""
