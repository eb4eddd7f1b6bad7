"""Slurm's variables in torchrun's words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillnet_cli.engine.distributed.mesh import torchrun_variables

STEP = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NUM_TASKS": "7",
    "SLURM_STEP_NODELIST": "gpu[08,10-11]",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2),3",
    "SLURM_NODEID": "2",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
}


def test_a_task_of_srun_is_a_rank() -> None:
    words = torchrun_variables(STEP)
    port = words.pop("MASTER_PORT")
    assert words == {
        "RANK": "5",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "7",
        "LOCAL_WORLD_SIZE": "3",
        "MASTER_ADDR": "gpu08",
    }
    assert 20_000 <= int(port) < 40_000
    others = [torchrun_variables({**STEP, key: value})["MASTER_PORT"] for key, value in (("SLURM_PROCID", "0"),)]
    assert others == [port]
    assert torchrun_variables({**STEP, "SLURM_JOB_ID": "4712"})["MASTER_PORT"] != port


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {**STEP, "RANK": "0"},
        {key: value for key, value in STEP.items() if "STEP" not in key} | {"SLURM_NTASKS": "8"},  # a batch script
        {**STEP, "SLURM_STEP_NUM_TASKS": "1"},
    ],
)
def test_where_srun_has_started_no_several_tasks_nothing_is_said(environment: dict[str, str]) -> None:
    assert torchrun_variables(environment) == {}


def test_the_old_names_do_as_well() -> None:
    old = {"SLURM_STEPID": "0", "SLURM_NTASKS": "2", "SLURM_NODELIST": "n1", "SLURM_TASKS_PER_NODE": "2"}
    words = torchrun_variables({**old, "SLURM_PROCID": "1", "SLURM_LOCALID": "1"})
    assert (words["WORLD_SIZE"], words["LOCAL_WORLD_SIZE"], words["MASTER_ADDR"]) == ("2", "2", "n1")


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node[01-04,07],gpu3", "node01"),
        ("gpu3,node[01-04]", "gpu3"),
        ("login", "login"),
        ("rack[2-3]-node[07,9].example.org,a", "rack2-node07.example.org"),
        ("n-1,n-2", "n-1"),
    ],
)
def test_the_first_host_of_a_list(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


def first_host(nodes: str) -> str:
    return torchrun_variables({**STEP, "SLURM_STEP_NODELIST": nodes})["MASTER_ADDR"]


NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,5}[a-z]", fullmatch=True)
NUMBERS = st.lists(st.tuples(st.integers(0, 99), st.integers(0, 9)), min_size=1, max_size=4)


@given(st.lists(st.tuples(NAMES, st.none() | NUMBERS), min_size=1, max_size=4), st.integers(1, 3))
def test_the_first_host_is_the_one_that_expanding_the_list_gives(
    groups: list[tuple[str, list[tuple[int, int]] | None]], width: int
) -> None:
    """Against the whole list, written as Slurm does and expanded one by one."""
    written, hosts = [], []
    for name, numbers in groups:
        if numbers is None:
            written.append(name)
            hosts.append(name)
            continue
        ranges = [f"{start:0{width}d}" + (f"-{start + more:0{width}d}" if more else "") for start, more in numbers]
        written.append(f"{name}[{','.join(ranges)}]")
        hosts += [f"{name}{number:0{width}d}" for start, more in numbers for number in range(start, start + more + 1)]
    assert first_host(",".join(written)) == hosts[0]
