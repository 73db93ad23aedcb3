"""The mechanism of stages: what is made once, resumed, refused, linked, shown and tracked.

- ``stage``: what a stage is, and one that is made in the driver; ``row_stage``: one of rows, processed by a pool of actors with Ray Data
- ``actor``: what runs in these actors: retries, rejects, commits
- ``graph``: the stages of a run in order; which are needed, what may run side by side
- ``run``: a run's directory, tracker, terminal and what it reads from other runs
- ``parts``: the Parquet parts that are data and checkpoint in one; ``record``: a stage's plan and totals
- ``links``: stages that are read from other runs; ``versions``: libraries that decide results
- ``lock``: one job at a time in a run directory; the file systems are in `actors.storage`
- ``terminal``, ``progress``, ``bars``: what a person sees; ``logs``: what libraries print; ``tracking``: MLflow
- ``pool``: workers and rows in flight; ``errors``: how a stage and a row can fail

To add a stage: CONTRIBUTING.md.
"""
