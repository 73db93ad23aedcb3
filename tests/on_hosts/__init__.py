"""Clusters of virtual hosts on this machine: ``make test-cluster``. Needs root and iproute2; too heavy for every run of the suite."""
