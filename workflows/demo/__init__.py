"""The laptop's demo on the arithmetic world.

- ``flow``: all stages, then a report; ``results``: its tables and pictures
- ``oracle_tables``: labels, judges and consensus against the truth of every step
- ``toy_models``: the making of the tiny models and data that ship; ``sections``: its configuration
"""
