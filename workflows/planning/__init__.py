"""What a run costs before it is made: rows, tokens, GPU hours, time and money of each stage, from its configuration and assumptions.

- ``forecast``: the stages, one after another
- ``assumptions``: what the configuration does not say, with sources
- ``hardware``: tokens per second of a model on GPUs, as arithmetic
- ``prices``: what an hour costs
- ``simulated``: policies and solutions with known success rates, on which the rules for spending paths and completions are tried
"""
