"""Where it runs.

- ``plan``: what a stage reserves, as arithmetic
- ``interrupts``: Ctrl-C
- ``session``: connecting to Ray, a local one or a cluster's
"""
