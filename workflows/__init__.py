"""The way from problems to scores: which stage reads what, runs which worker, writes what.

- ``synthesis``: problems, rollouts, solutions, estimates, labels, rationales, conversations
- ``training``: conversations to a checkpoint, exported in Hugging Face format
- ``evaluation``: a ProcessBench file judged by a verifier
- ``search``: best-of-N and critic
- ``stage``: one stage = dataset in, actor pool, dataset out, resume, tracking
- ``stage_actor``: what runs in a stage's actors; ``stage_record``: its plan and its totals
- ``parts``: the Parquet parts a stage commits, and its records
- ``lock``: one job at a time in a run directory
- ``identity``: what decides a stage's output, as its plan records it
- ``storage``: the file systems they live on
- ``data_files``: rows of JSONL, JSON, Parquet and hub data sets
- ``decontamination``: keeping benchmarks out, as data or as fingerprints
- ``problems``: problems and benchmarks, checked and deduplicated
- ``tracking``: MLflow
- ``report``: results as a table, a page and pictures
"""
