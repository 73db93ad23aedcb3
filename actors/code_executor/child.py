"""Inside a session's process: read a block, run it, report; names persist from block to block.

Started as a script by `executor.py` with the limits as arguments; imports nothing of ours. One JSON line in (the code),
one JSON line out (status and text). The pipe that carries the reports is moved away from descriptors 0 and 1 first.
"""

import ctypes
import io
import json
import os
import resource
import signal
import sys
import traceback

PR_SET_PDEATHSIG = 1


class CappedOutput(io.TextIOBase):
    """Keeps the first ``limit`` characters and counts the rest away."""

    def __init__(self, limit):
        self.limit = limit
        self.kept = []
        self.length = 0

    def writable(self):
        return True

    def write(self, text):
        text = str(text)
        if self.length < self.limit:
            self.kept.append(text[: self.limit - self.length])
        self.length += len(text)
        return len(text)

    def value(self):
        return "".join(self.kept)


def main():
    memory_bytes, cpu_s, output_chars = (int(argument) for argument in sys.argv[1:4])
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    questions = os.fdopen(os.dup(0), "r", encoding="utf-8")
    reports = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    names = {"__name__": "__main__"}
    for line in questions:
        output = CappedOutput(output_chars)
        sys.stdout = sys.stderr = output
        status = "ok"
        error = ""
        try:
            exec(compile(json.loads(line), "<code>", "exec"), names)
        except SystemExit:
            pass
        except BaseException as failure:
            status = "error"
            error = traceback.format_exception_only(failure)[-1].strip()
        report = {"status": status, "output": output.value(), "cut": output.length > output.limit, "error": error}
        reports.write(json.dumps(report) + "\n")
        reports.flush()


main()
