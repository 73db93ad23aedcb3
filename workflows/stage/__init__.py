"""The mechanism of stages: what is made once, resumed, refused, linked, shown and tracked.

- ``stage``: what a stage is, and one that is made in the driver; ``row_stage``: one of rows, processed by a pool of actors or by tasks
- ``rows``: the input, read ahead; ``dispatch``: which row goes to which worker
- ``workers``: the pool of actors; ``worker``: what runs in each; ``pool``: its settings
- ``failures``: three kinds, and when there are too many; ``limits``: its settings; ``errors``: how a stage and a row can fail
- ``ledger``: the record of what is done; ``parts``: rows as files; ``compaction``: few files of many; ``retry``: rejected rows again
- ``graph``: the stages of a run in order; which are needed, what may run side by side
- ``run``: a run's directory, tracker, terminal and what it reads from other runs
- ``record``: a stage's plan and totals; ``summary``: the totals
- ``links``: stages that are read from other runs; ``versions``: libraries that decide results
- ``lock``: one job at a time in a run directory; the file systems are in `actors.storage`
- ``terminal``, ``progress``, ``bars``: what a person sees; ``heartbeat``: what others see; ``logs``: what libraries print
- ``usage``: what workers hold, and the budget; ``metrics``: for Prometheus; ``tracking``: MLflow

To add a stage: CONTRIBUTING.md.
"""
