"""Commands on hostile inputs: each in a process that is forked from one that has imported everything, and watched.

``python -m tests.cases.hostile FOLDER --count N [--only KIND[:NUMBER]]`` makes the world in the folder, tries N inputs
and prints a line of JSON for each. What an input is follows from its kind and its number alone.
"""

from __future__ import annotations

import argparse
import atexit
import importlib
import json
import os
import pkgutil
import random
import resource
import shlex
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

SECONDS = 20
"""Of computing, for any input."""

HANG = 150
"""Seconds by the clock, which other processes may have taken."""

MEMORY = 1_500_000_000
"""Bytes that the largest process of a command may ever have, Python, torch and the model among them."""

CEILING = 4 << 30
"""Bytes that a command is not given, so that a bomb does not take the machine along."""

SECRET = "the-text-of-the-canary"
WRITTEN = ("runs/", "c/", "out", "shares", ".partial")
"""What commands may change in the folder that they are run in: what they are told to write."""


@dataclass
class Outcome:
    """What became of one input."""

    kind: str
    number: int
    words: str
    fault: str
    code: int | None = None
    seconds: float = 0.0
    bytes: int = 0
    wrong: list[str] = field(default_factory=list)
    said: str = ""


def command(words: Sequence[str]) -> int:
    """Run a command as the console script does; returns its exit code, and 99 where a traceback would be seen."""
    from skillnet_cli.cli import main

    try:
        main(list(words))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except BaseException:
        traceback.print_exc()
        return 99
    return 0


def inputs(count: int) -> Iterator[tuple[str, int]]:
    """Kinds in turn, each with its next number."""
    from tests.cases.hostile_world import KINDS

    names = list(KINDS)
    for place in range(count):
        yield names[place % len(names)], place // len(names)


def main() -> None:
    """Try inputs and print what became of each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--only", default="")
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args()
    _import_all()
    given.folder.mkdir(parents=True, exist_ok=True)
    origin = given.folder / "origin"
    _fork(lambda: _prepare(origin), given.folder / "making.log")
    kind, _, number = given.only.partition(":")
    chosen = list(inputs(given.count))
    if kind:
        chosen = [(kind, int(number))] if number else [(kind, each) for each in range(given.count)]
    running: dict[int, _Running] = {}
    while chosen or running:
        while chosen and len(running) < given.jobs:
            one = _Running(*chosen.pop(0), given.folder, origin)
            running[one.pid] = one
        for pid in [pid for pid, one in running.items() if one.ended()]:
            print(json.dumps(asdict(running.pop(pid).outcome)), flush=True)
        time.sleep(0.002)


def _import_all() -> None:
    for root in (
        "skillnet_cli",
        "skillnet_text",
        "skillnet_sound",
        "skillnet_image",
        "skillnet_video",
        "skillnet_code",
    ):
        package = importlib.import_module(root)
        for module in pkgutil.walk_packages(package.__path__, f"{root}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    for name in (
        "tests.cases.hostile_world",
        "tests.cases.hostile_faults",
        "torchvision.transforms.v2",
        "torch._dynamo",
    ):
        importlib.import_module(name)
    from skillnet_cli.plugins import load_registry
    from tests.faults.corpus import damaged_files

    load_registry()
    damaged_files()
    assert threading.active_count() == 1, "a process with threads cannot be forked"


def _prepare(origin: Path) -> int:
    from tests.cases.hostile_world import make_world

    (origin / "work").mkdir(parents=True)
    os.chdir(origin / "work")
    make_world(Path())
    return 0


def _fork(do: object, log: Path) -> None:
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        _become(log, log, Path(os.devnull))
        code = 1
        try:
            code = do()  # type: ignore[operator]
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0:
        raise SystemExit(log.read_text(errors="replace"))


def _become(out: Path, err: Path, given: Path) -> None:
    for path, flags, number in ((given, os.O_RDONLY | os.O_NONBLOCK, 0), (out, os.O_WRONLY, 1), (err, os.O_WRONLY, 2)):
        handle = os.open(path, flags if number == 0 else flags | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(handle, number)
        os.close(handle)
    if given != Path(os.devnull):
        os.set_blocking(0, True)


class _Running:
    """One command in a world of its own."""

    def __init__(self, kind: str, number: int, folder: Path, origin: Path) -> None:
        from tests.cases.hostile_faults import spoil
        from tests.cases.hostile_world import KINDS

        draw = random.Random(f"{kind} {number}")
        self.place = folder / f"{kind.replace(' ', '-')}-{number}"
        self.work = self.place / "work"
        shutil.copytree(origin / "work", self.work)
        for name in ("outside", "home", "tmp"):
            (self.place / name).mkdir()
        (self.place / "outside" / "canary").write_text(SECRET)
        files = sorted({path for pattern in KINDS[kind].paths for path in self.work.glob(pattern) if path.is_file()})
        path = draw.choice(files)
        words = KINDS[kind].commands[(number + draw.randrange(2)) % len(KINDS[kind].commands)]
        words = words.replace("FILE", path.relative_to(self.work).as_posix())
        fault = f"{path.relative_to(self.work).as_posix()}: {spoil(path, self.work, draw)}"
        self.outcome = Outcome(kind, number, words, fault)
        self.before, self.outside = _tree(self.work), _tree(self.place / "outside")
        self.out, self.err = self.place / "out", self.place / "err"
        self.started = time.monotonic()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._run(words)

    def _run(self, words: str) -> None:
        code = 98
        try:
            os.setsid()
            typed, _, given = words.partition(" < ")
            os.chdir(self.work)
            given_path = Path(given) if given and Path(given).is_file() else Path(os.devnull)
            _become(self.out, self.err, given_path)
            os.environ |= {"HOME": str(self.place / "home"), "TMPDIR": str(self.place / "tmp")}
            os.environ["XDG_CACHE_HOME"] = str(self.place / "home" / ".cache")
            tempfile.tempdir = None
            resource.setrlimit(resource.RLIMIT_DATA, (CEILING, CEILING))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            code = command(shlex.split(typed))
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def ended(self) -> bool:
        """Whether the command has ended; then its outcome is complete, and its world is gone."""
        pid, status, used = os.wait4(self.pid, os.WNOHANG)
        if pid == 0 and time.monotonic() - self.started < HANG:
            return False
        if pid == 0:
            os.killpg(self.pid, signal.SIGKILL)
            _, status, used = os.wait4(self.pid, 0)
            self.outcome.wrong.append(f"it had not ended after {HANG} seconds")
        try:
            os.killpg(self.pid, signal.SIGKILL)
            self.outcome.wrong.append("a process of its own is left")
        except ProcessLookupError:
            pass
        outcome = self.outcome
        outcome.code, outcome.seconds = os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
        outcome.bytes = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        self._judge()
        shutil.rmtree(self.place, ignore_errors=True)
        return True

    def _judge(self) -> None:
        outcome = self.outcome
        outcome.wrong += [] if outcome.code in (0, 1, 2) else [f"exit code {outcome.code}"]
        outcome.wrong += [f"{outcome.seconds:.0f} seconds of computing"] * (outcome.seconds > SECONDS)
        outcome.wrong += [f"{outcome.bytes / 1e9:.2f} GB"] * (outcome.bytes > MEMORY)
        for name, path in (("out", self.out), ("err", self.err)):
            text = (path.read_bytes() if path.exists() else b"").decode("utf-8", "surrogateescape")
            outcome.wrong += [f"a traceback in {name}"] * ("Traceback" in text)
            outcome.wrong += [f"the canary in {name}"] * (SECRET in text)
            outcome.wrong += [f"no UTF-8 in {name}"] * any("\ud800" <= each <= "\udfff" for each in text)
            found = {
                each for each in text if unicodedata.category(each) in ("Cc", "Cf") and each not in "\n\t\r\u200d\ufeff"
            }
            outcome.wrong += [f"{sorted(found)!a} in {name}"] * bool(found)
            if name == "err":
                outcome.said = text[-1500:]
                last = text.strip().splitlines()[-1:] if outcome.code else [""]
                outcome.wrong += ["not a word about what is wrong"] * (outcome.code in (1, 2) and not last)
        after = _tree(self.work)
        changed = {name for name in {*after, *self.before} if after.get(name) != self.before.get(name)}
        outcome.wrong += [f"changed: {name!a}" for name in sorted(changed) if not name.startswith(WRITTEN)][:5]
        rest = [name for name in after if name not in self.before and _is_rest(name)]
        outcome.wrong += [f"left: {name!a}" for name in rest[:5]]
        outcome.wrong += ["what is outside was changed"] * (_tree(self.place / "outside") != self.outside)
        temporary = [path.name for path in (self.place / "tmp").iterdir()]
        outcome.wrong += [f"left in the temporary folder: {temporary!a}"] * bool(temporary)
        kept = [name for name in _tree(self.place / "home") if "/torch" not in name]
        outcome.wrong += [f"left at home: {kept[:5]!a}"] * bool(kept)


def _is_rest(name: str) -> bool:
    return any(part.endswith((".partial", ".old", ".tmp")) for part in Path(name).parts) and ".partial/" not in name


def _tree(folder: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(root, name)  # noqa: PTH118 - fast
            facts = os.lstat(path)
            is_folder = not os.path.islink(path) and os.path.isdir(path)  # noqa: PTH112, PTH114
            found[os.path.relpath(path, folder)] = (0, 0) if is_folder else (facts.st_size, facts.st_mtime_ns)
    return found


if __name__ == "__main__":
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONUTF8": "1"}
    main()
