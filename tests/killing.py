"""Processes that are killed: a warm one forks them, so that each costs a fork and what it runs until it dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from types import TracebackType

#: Lines often, however long they take: something is recorded before the next kill.
OFTEN = "from qengine.work import checkpoint; checkpoint.LEAST, checkpoint.COST = 0.005, 0"
_FORKS = """
import json, os, sys, traceback
exec(json.loads(sys.stdin.readline()), {})
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if not child:
        code = 1
        try:
            exec(json.loads(line), {})
            code = 0
        except SystemExit as end:  # a command that was done before it could be killed
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    print(f"child {child}", flush=True)
    sys.stdin.readline()  # until then its number is its own, even if it has ended
    print(os.waitpid(child, 0)[1], flush=True)
"""


class Forks:
    """A process that has imported and compiled what is needed (`warm`), and runs code in forks of itself."""

    def __init__(self, warm: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._tell(warm)
        assert self._answer() == "ready"

    def _tell(self, code: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(code) + "\n")
        self._process.stdin.flush()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def run(self, code: str, *, kill_after: float | None = None, number: int = signal.SIGKILL) -> int:
        """Run code; return its exit status, negative for the signal that ended it."""
        self._tell(code)
        word, child = self._answer().split()
        assert word == "child"
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(int(child), number)
        self._tell("wait for it")
        return os.waitstatus_to_exitcode(int(self._answer()))

    def __enter__(self) -> Forks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()
