"""Running ``skillnet`` as a user does: a process of its own, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Answer:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Terminal:
    """A working folder, and the environment that commands see in it."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def type(self, *words: str | Path) -> Answer:
        """Run ``skillnet WORDS`` to its end."""
        command = [sys.executable, "-m", "skillnet_cli", *map(str, words)]
        environment = os.environ | {"PYTHONUTF8": "1"} | self.environment
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, encoding="utf-8")
        return Answer(done.returncode, done.stdout, done.stderr)

    def succeed(self, *words: str | Path) -> str:
        """What a command that must succeed prints on standard output."""
        answer = self.type(*words)
        assert answer.code == 0, answer.err
        return answer.out

    def mistake(self, *words: str | Path) -> str:
        """The one line that a command refused with exit code 2 says."""
        answer = self.type(*words)
        assert answer.code == 2, f"exit code {answer.code}: {answer.err}"
        assert "Traceback" not in answer.err
        return answer.err.splitlines()[-1]
