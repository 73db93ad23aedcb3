"""What runs on the untrusted side: the fork server and its sessions. Standard library only, nothing of ours beside it.

- ``fork_server``: the process that imports the libraries once and forks a session at a time
- ``session``: the loop in a session's process
- ``confinement``: the layers, put on in order; ``landlock`` and ``seccomp`` are two of them, ``syscalls`` their numbers
"""
