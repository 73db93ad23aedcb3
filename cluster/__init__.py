"""Where it runs.

- ``session``: connecting to Ray, a local one or a cluster's
"""
