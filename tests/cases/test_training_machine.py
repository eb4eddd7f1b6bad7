"""What machines do to a training: signals, full disks, little memory, ports that are taken, other systems."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from skillnet_cli.api import FailedJob, UserError
from skillnet_cli.engine.distributed.heartbeat import Sign, Watch
from skillnet_cli.engine.distributed.mesh import _meet
from skillnet_cli.engine.estimate.forecast import Cluster, forecast
from skillnet_cli.engine.machine import machine_errors
from skillnet_cli.plugins import load_registry
from tests.distributed.ranks import ends, start_one
from tests.distributed.test_two_processes import _workers
from tests.ranks import free_port
from tests.workbench import World, tasks, toy_world

SETTINGS: dict[str, Any] = {
    "finetune__steps": 4,
    "finetune__tasks": tasks("sort"),
    "train__checkpoints": {"every": 2, "keep": 2},
}
LONG: dict[str, Any] = {**SETTINGS, "finetune__steps": 1_000_000, "train__checkpoints": {"every": 1_000_000}}


@pytest.fixture
def world(tmp_path: Path) -> Any:
    with toy_world(tmp_path) as opened:
        yield opened


def wait_for_step(world: World, step: int, process: subprocess.Popen[str], run: str = "toy") -> None:
    limit = time.monotonic() + 120
    while not any(row["step"] >= step for row in world.rows(run=run)):
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.02)


@pytest.mark.parametrize("victim", [0, pytest.param(1, marks=pytest.mark.soak)])
def test_s15_a_stopped_rank_is_named_and_the_run_ends(world: World, victim: int) -> None:
    """Also rank 0, whose process holds the store; by the launcher, which waits for nobody who cannot answer."""
    patience = 6
    process = world.start(world.recipe(**LONG, train__timeout=patience), nproc=2)
    wait_for_step(world, 3, process)
    stopped = _workers(process.pid)[victim]
    os.kill(stopped, signal.SIGSTOP)
    began = time.monotonic()
    try:
        said = process.communicate(timeout=60)[1]
    finally:
        if psutil.pid_exists(stopped):
            os.kill(stopped, signal.SIGKILL)
    assert time.monotonic() - began < patience + 20
    assert process.returncode == 1
    last = said.rstrip().splitlines()[-1]
    assert re.match(rf"skillnet: error: rank {victim} \(host \S+, pid {stopped}\) (did not reach|has given no)", last)
    assert "Traceback" not in said


IDLE = "did nothing for 10 s, last in step 4"


@pytest.mark.parametrize(
    ("works", "lost"),
    [
        pytest.param({0: "waits", 1: "sleeps"}, ([1], IDLE), id="in an evaluation"),
        pytest.param({0: "sleeps", 1: "waits"}, ([0], IDLE), id="rank 0 itself"),
        pytest.param({0: "sleeps", 1: "waits", 2: "sleeps"}, ([0, 2], IDLE), id="two"),
        pytest.param({0: "next", 1: "sleeps"}, ([1], "did not reach step 5 within 10 s"), id="for want of data"),
        pytest.param({0: "sleeps", 1: "dies"}, ([1], "has given no sign of life for 10 s, last in step 4"), id="dead"),
        pytest.param({0: "waits", 1: "works"}, None, id="a long evaluation"),
        pytest.param({0: "waits", 1: "waits"}, None, id="all meet"),
    ],
)
def test_s15_a_rank_whose_work_does_not_get_on_is_named(works: dict[int, str], lost: Any) -> None:
    """Though its thread gives signs of life; whoever waits for it, however long, is not, nor one that works on."""
    watch, found = Watch(0, 10.0, 0.5), []
    for number in range(1, 60):  # signs, twice a second
        now = number / 2
        for rank, what in works.items():
            step, pieces = 5 if what == "next" and number > 2 else 4, number // 16 if what == "works" else 0
            watch.note(rank, Sign(step, pieces, what == "waits", 1 if what == "dies" else number), now)
        found += [(now, watch.lost(now))] if watch.lost(now) else []
    if lost is None:
        assert not found
    else:
        assert found[0][1] == lost and 10 < found[0][0] < 13


def test_s15_only_who_hears_of_all_ranks_judges_whose_work_stands_still() -> None:
    """Rank 1 in an update cannot tell whether rank 0 waits for it; at the start all have a minute at least."""
    other, start = Watch(1, 10.0, 0.5), Watch(0, 10.0, 0.5)
    for number in range(1, 200):
        other.note(0, Sign(4, 0, False, number), number / 2)
        start.note(0, Sign(0, 0, False, number), number / 2)
        assert other.lost(number / 2) is None
        assert start.lost(number / 2) is None or number / 2 > 60
    assert start.lost(100.0) == ([0], "did nothing for 60 s, before step 1")


def test_s15_a_second_trainer_is_refused_and_the_first_goes_on(world: World) -> None:
    process = world.start(world.recipe(**LONG))
    wait_for_step(world, 2, process)
    with pytest.raises(UserError, match="toy is being trained by another process: wait for it") as caught:
        world.train(**LONG)
    assert "\n" not in str(caught.value)
    second = world.start(world.recipe(**LONG))
    assert "is being trained by another process" in second.communicate(timeout=60)[1]
    assert second.returncode == 2
    wait_for_step(world, world.rows()[-1]["step"] + 2, process)
    process.kill()
    process.communicate()


@pytest.mark.parametrize("nproc", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_s15_a_second_interrupt_leaves_nothing_half_written(world: World, nproc: int) -> None:
    process = world.start(world.recipe(**{**LONG, "finetune__steps": 2_000_000}), nproc=nproc)
    wait_for_step(world, 2, process)
    (world.run() / "finetune" / "checkpoints").mkdir(parents=True, exist_ok=True)
    half = world.run() / "finetune" / "checkpoints" / ".step-9.abc.partial"
    half.mkdir()
    workers = _workers(process.pid) if nproc > 1 else [process.pid]
    for pid in workers:  # as if it were in a long call, or busy with a save
        os.kill(pid, signal.SIGSTOP)
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.5 if nproc > 1 else 0)
    os.kill(process.pid, signal.SIGTERM)
    for pid in workers:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGCONT)
    said = process.communicate(timeout=30)[1]
    assert process.returncode in (130, 143), said
    assert not list(world.run().rglob("*.partial"))
    assert "Traceback" not in said


def test_s15_no_process_stays_after_a_signal(world: World) -> None:
    process = world.start(world.recipe(**LONG, train__workers=1), nproc=2)
    wait_for_step(world, 2, process)
    started = psutil.Process(process.pid).children(recursive=True)
    assert len(started) >= 4  # two ranks and their readers
    os.kill(process.pid, signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 143, said
    _gone, alive = psutil.wait_procs(started, timeout=10)
    assert not alive


def test_s15_a_port_in_use_is_said(world: World) -> None:
    """By the launcher for its endpoint, by the first rank for MASTER_PORT."""
    with socket.socket() as other:
        other.bind(("localhost", 0))
        other.listen()
        port = other.getsockname()[1]
        recipe = world.recipe(**SETTINGS)
        process = world.start(recipe, nproc=2, rdzv_endpoint=f"localhost:{port}")
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 2 and f"--rdzv-endpoint localhost:{port}: Address already in use" in said
        variables = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}
        ((code, said),) = ends([start_one(world, recipe, "toy", **variables, MASTER_PORT=str(port))], timeout=60)
    assert code == 2
    assert said.rstrip().splitlines()[-1] == (
        f"skillnet: error: port {port} of localhost is in use: choose another one with MASTER_PORT"
    )
    assert "Traceback" not in said


def test_s15_a_rank_that_never_comes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    with pytest.raises(FailedJob, match=r"^of 3 ranks these have not come to localhost:\d+ in 1 s: 1, 2$"):
        _meet(0, 3, 1.0)


def test_s15_a_stage_killed_while_it_finished_is_finished_once(world: World) -> None:
    """Its rows are there once, and what was half written is gone."""
    settings = {**SETTINGS, "train__eval": {"every": 2, "items": 12}}
    world.train(**settings)
    once = [(row["kind"], row["step"]) for row in world.rows("eval") + world.rows("mix")]
    for folder in (world.run() / "finetune" / "model", world.run() / "model"):
        shutil.rmtree(folder)
    for half in (world.run() / ".model.0123abcd.partial", world.run() / "finetune" / ".model.4567abcd.partial"):
        half.mkdir()
        (half / "model-head-x.safetensors").write_bytes(b"half")
    world.train(**settings)
    assert [(row["kind"], row["step"]) for row in world.rows("eval") + world.rows("mix")] == once
    assert not list(world.run().rglob("*.partial"))
    assert (world.run() / "model" / "config.json").exists()


def test_s15_all_files_have_the_permissions_of_new_files(world: World) -> None:
    before = os.umask(0o027)
    try:
        world.train(**SETTINGS)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in world.run().rglob("*") if path.is_file()}
    assert len(modes) > 5 and set(modes.values()) == {0o640}, modes


def test_s15_little_memory_is_a_line(tmp_path: Path) -> None:
    for work in (lambda: torch.empty(1 << 50, dtype=torch.float32), lambda: bytearray(1 << 60)):
        with pytest.raises(FailedJob, match="the memory does not suffice") as caught, machine_errors(tmp_path):
            work()
        assert "\n" not in str(caught.value)
    with pytest.raises(RuntimeError, match="shape"), machine_errors(tmp_path):
        torch.ones(2, 3) @ torch.ones(2, 3)


def test_s15_a_failing_disk_is_a_line(tmp_path: Path) -> None:
    line = r"^/x/y: No space left on device: run it again to resume$"
    with pytest.raises(FailedJob, match=line), machine_errors(tmp_path):
        raise OSError(28, "No space left on device", "/x/y")


def test_u18_a_disk_without_room_is_found_before_training(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """And by --plan; the figure is that of the files that a run with room has written."""
    usage = namedtuple("usage", "total used free")
    best = {"train__eval": {"every": 2, "items": 4}, "train__checkpoints": {"every": 1, "keep": 2, "best": ["mean"]}}
    settings = {**SETTINGS, **best, "model__hidden": 64, "model__ffn": 256}
    world.train("roomy", **settings)
    written = sum(path.stat().st_size for path in world.run("roomy").rglob("*.safetensors"))
    checkpoint = max(
        sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        for folder in (world.run("roomy") / "finetune" / "checkpoints").iterdir()
    )
    links = sum(path.stat().st_size for path in (world.run("roomy") / "model").glob("*.safetensors"))  # hard links
    needed = written - links + checkpoint  # one more is there while it is written

    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1 << 40, 0, int(needed * 0.9)))
    with pytest.raises(UserError, match=r"toy[/\\]finetune needs \d+\.\d MB for checkpoints .* make room") as caught:
        world.train(**settings)
    assert "\n" not in str(caught.value) and not world.rows()
    recipe = world.recipe(**settings)
    found = forecast(recipe, "finetune", load_registry(), world.roots, Cluster(1, 1, None), world.run())
    assert any("make room" in line for line in found.problems)

    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1 << 40, 0, int(needed * 1.2)))
    world.train(**settings)


INTERRUPTED_AT = {
    "typer": ["--help"],
    "skillnet_cli.cli.train": ["plugins"],
    "skillnet_cli.recipe.load": ["recipes", "check", "demo"],
}


@pytest.mark.parametrize("module", INTERRUPTED_AT)
def test_u09_an_interrupt_during_the_imports_is_silent(tmp_path: Path, module: str) -> None:
    """SIGINT as a module begins to be imported: nothing is printed and the exit code is 130."""
    (tmp_path / "sitecustomize.py").write_text(
        textwrap.dedent(f"""
        import os, signal, sys
        class Finder:
            def find_spec(self, name, path=None, target=None):
                if name == {module!r} and "skillnet_cli.cli" in sys.modules:
                    os.kill(os.getpid(), signal.SIGINT)
        sys.meta_path.insert(0, Finder())
    """)
    )
    done = subprocess.run(
        [sys.executable, "-m", "skillnet_cli", *INTERRUPTED_AT[module]],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background ignores it
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr.strip()) in ((130, "", ""), (130, "", "Aborted."))


ABSENT = {
    "os": ["sched_getaffinity", "pread", "setpgrp", "killpg", "fork", "geteuid", "getuid", "posix_fadvise", "uname"],
    "signal": ["SIGKILL", "SIGHUP", "SIGQUIT", "SIGSTOP", "SIGCONT", "SIGPIPE"],
}
"""What macOS or Windows do not have."""


def test_b08_trains_without_what_other_systems_lack(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ABSENT["os"]:
        monkeypatch.delattr(os, name)
    for name in ("SIGKILL", "SIGHUP", "SIGQUIT", "SIGSTOP", "SIGCONT"):
        monkeypatch.delattr(signal, name)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    threads = torch.get_num_threads()
    try:
        world.train(**SETTINGS)
    finally:
        torch.set_num_threads(threads)
    assert (world.run() / "model" / "config.json").exists()


def test_b08_every_module_is_imported_without_what_other_systems_lack() -> None:
    """The libraries that are imported first may ask for it; they have their own ways there."""
    code = textwrap.dedent(f"""
        import importlib, os, pkgutil, signal, sys
        import filelock, httpx2, huggingface_hub, psutil, pydantic, rich.live, torch, transformers, typer
        import multiprocessing.connection, torch.distributed.launcher.api, torch.distributed.fsdp, torch.utils.data
        import concurrent.futures.process
        for name, attributes in {ABSENT!r}.items():
            for attribute in attributes:
                if hasattr(sys.modules[name], attribute):
                    delattr(sys.modules[name], attribute)
        for gone in ("fcntl", "resource", "pwd", "grp", "termios"):
            sys.modules[gone] = None
        import skillnet_cli
        for module in pkgutil.walk_packages(skillnet_cli.__path__, "skillnet_cli."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
