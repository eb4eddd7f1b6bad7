"""A training checkpoint made into a model's folder."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from skillnet_cli.api import FailedJob
from skillnet_cli.engine.checkpoint.format import AVERAGE, DESCRIPTION, MODEL, Checkpoint
from skillnet_cli.engine.checkpoint.state import restore_tensors
from skillnet_cli.files import disk_errors
from skillnet_cli.model.build import build_readers
from skillnet_cli.model.checkpoint import ASSETS
from skillnet_cli.model.config import read_config
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.model.surgery import export, must_be_new
from skillnet_cli.plugins import Registry


def export_training(
    folder: Path, to: Path, registry: Registry, skills: Sequence[str] | None, tasks: Sequence[str] | None
) -> SkillNet:
    """Save the model of a training checkpoint, or some of its skills and tasks, with averages where it has them.

    Args:
        folder: ``runs/NAME/STAGE/checkpoints/step-N``, saved by any number of processes.
        to: the new model's folder.
        registry: has the plugins of the model's skills.
        skills: as in :meth:`SkillNet.from_pretrained`; all if neither skills nor tasks are given.
        tasks: as in :meth:`SkillNet.from_pretrained`.

    Raises:
        UserError: ``to`` already exists, the model has no such skill or task, or a plugin is missing.
        FailedJob: the checkpoint is damaged, or the disk does not take the model.
    """
    must_be_new(to)
    model = _open_training(folder, registry)
    if skills is None and tasks is None:
        with disk_errors(to):
            model.save(to)
        return model
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}.") as scratch, disk_errors(to):
        model.save(Path(scratch) / folder.name)
        return export(Path(scratch) / folder.name, to, registry, skills, tasks)


def _open_training(folder: Path, registry: Registry) -> SkillNet:
    """The model of a training checkpoint, in one piece. Raises as :func:`export_training`."""
    checkpoint = Checkpoint(folder, step=0)
    if checkpoint.incomplete():
        raise FailedJob(f"{folder} is not a complete checkpoint: {checkpoint.incomplete()}")
    checkpoint.verify()
    model = SkillNet(read_config(folder / DESCRIPTION, registry), registry)
    restore_tensors(model.state_dict(), checkpoint.sharded(MODEL), str(folder))
    averaged = checkpoint.sharded(AVERAGE)
    restore_tensors(
        {name: each for name, each in model.state_dict().items() if name in averaged}, averaged, str(folder)
    )
    embedders = {skill: facts["embedder"] for skill, facts in model.config.skills.items()}
    model.readers = build_readers(embedders, registry, folder / DESCRIPTION / ASSETS)
    return model.eval()
