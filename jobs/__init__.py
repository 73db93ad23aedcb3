"""What is submitted: ``python -m jobs.<name> --config jobs/presets/<preset>.toml``.

- ``synthesize``, ``train``, ``evaluate``, ``search``: the workflow's parts
- ``demo``: all of them in order, then a table
- ``pretrain_toy``: makes the tiny models that ship with the project
- ``benchmark``: speed, measured against the bare library
- ``cli``, ``config``: what they share
"""
