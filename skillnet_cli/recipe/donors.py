"""The pretrained models that ``[init]`` names: where they lie, what they are, and whether they fit the recipe."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from skillnet_cli.api import Donor, UserError
from skillnet_cli.plugins import Registry, resolve

CONFIG = "config.json"
OF_PROJECTIONS = frozenset({"layers", "hidden", "heads"})
"""Sizes that matter even where the shared parts stay fresh."""

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?")


def local_folder(source: str) -> Path | None:
    """The folder that ``source`` names, or None where it is a hub's name. Raises UserError where it is neither."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if _HUB_NAME.fullmatch(source):
        return None
    raise UserError(f"'{source}' is no folder here, and no hub's name (ORGANISATION/MODEL)")


def reads_pretrained(skill: str, registry: Registry) -> str:
    """The plugin's function for pretrained models. Raises UserError where the skill's plugin has none."""
    init = registry.modality(skill).init
    if init is None:
        raise UserError(f"the plugin of skill '{skill}' reads no pretrained models")
    return init


def read_donor(folder: Path, skill: str, embedder: Any, registry: Registry) -> Donor:
    """What the pretrained model in a folder can start of a skill, as the skill's plugin says.

    Args:
        embedder: the skill's own configuration.

    Raises:
        UserError: there is none, its plugin cannot read it, or the skill's plugin reads no pretrained models at all.
    """
    init = reads_pretrained(skill, registry)
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no pretrained model lies in {folder} ({CONFIG} is missing)") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}") from error
    if not isinstance(config, dict):
        raise UserError(f"{path}: not the configuration of a model")
    donor: Donor = resolve(init)(config, embedder)
    return donor


def both_start_shared(other: str) -> str:
    """What to say of a second donor for the shared parts."""
    return f'would start the shared parts, as init.{other} does: write {{ from = "…", shared = false }} for one'


def misfits(donor: Donor, model: Mapping[str, Any], shared: bool) -> Iterator[str]:
    """What of ``[model]`` a donor's Transformer does not have; the shared parts' keys only if these are wanted."""
    for key, wanted in donor.encoder.items():
        if (shared or key in OF_PROJECTIONS) and model[key] != wanted:
            yield f"needs model.{key} = {json.dumps(wanted)}, and the recipe has {json.dumps(model[key])}"


def starts_shared(donor: Donor, shared: bool) -> bool:
    """Whether a donor's tensors go into the parts that all skills share."""
    return shared and bool(donor.encoder)
