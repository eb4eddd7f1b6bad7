"""Looking ahead: with data, without any, and with some."""

from __future__ import annotations

import json
import math

import pytest

from skillnet_cli.engine.estimate.cost import Accelerators
from skillnet_cli.engine.estimate.forecast import Cluster, forecast
from skillnet_cli.plugins import load_registry
from tests.workbench import World, make_set, tasks

HERE = Cluster()


def look(world: World, cluster: Cluster = HERE, **changes: object):  # type: ignore[no-untyped-def]
    return forecast(world.recipe(**changes), "finetune", load_registry(), world.roots, cluster)


def test_with_its_data(world: World) -> None:
    found = look(world, finetune__steps=60, train__strategy="fsdp")
    assert found.missing == [] and found.problems == []
    match = found.tasks["match"]
    assert (match.items, match.updates, match.epochs, match.shards) == (48, 10, 10 * 8 / 48, 1)
    assert match.negatives == 7 and match.chance == pytest.approx(math.log(8))
    assert match.tokens == 64 + 64 and match.mean_tokens is not None and 8 < match.mean_tokens < 40
    assert found.seconds == pytest.approx(sum(task.updates * (task.seconds or 0) for task in found.tasks.values()))
    assert found.tasks["sort"].suggested == {"replicate": 8}
    json.dumps(found.as_json(), allow_nan=False)


def test_what_is_missing_is_listed_and_the_rest_looked_at(world: World) -> None:
    table = {**tasks("fill", datasets=["toi"], batch=9), **tasks("match", batch=64), **tasks("sort", datasets=["tay"])}
    found = look(world, Cluster(processes=2), finetune__tasks=table)
    assert [line.split("'")[1] for line in found.missing] == ["toi", "tay"]
    assert found.tasks["fill"].items is None and found.tasks["match"].items == 48
    assert found.problems == [
        "finetune.tasks.fill: batch = 9 is not divisible by the 2 processes: choose a multiple of 2",
        "finetune.tasks.match: 48 training items of toy are too few for the 64 in one contrastive batch",
    ]
    assert any("labels of sort not known yet" in line for line in found.assumptions)
    assert found.tasks["sort"].item_bytes


def test_on_named_hardware(world: World) -> None:
    found = look(world, Cluster(accelerators=Accelerators.parse("a100-40g:4")))
    assert found.ranks == 4 and found.precision == "fp32" and set(found.tasks["sort"].memory) == {"replicate", "fsdp"}
    assert found.memory == Accelerators.parse("a100-40g").hardware.usable_bytes
    state = 4 * (found.parameters + 2 * found.trained + found.tasks["sort"].activated)
    assert found.tasks["sort"].memory["replicate"] > state


def test_a_label_that_is_not_listed_is_said_too(world: World) -> None:
    make_set(world.folder / "data", "odd", label="prime")
    found = look(world, finetune__tasks=tasks("sort", datasets=["odd"]))
    assert len(found.problems) == 1 and "'prime' is not in the list of" in found.problems[0]
