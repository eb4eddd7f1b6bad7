"""What a search looks for: the vector of a sentence, or of a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from skillnet_cli.api import DamagedItem, Reader, Source, UserError
from skillnet_cli.inference.capabilities import embeddable, query_skill, route_of, transcribing_task
from skillnet_cli.inference.encoder import encode_sources
from skillnet_cli.inference.transcriber import Transcriber
from skillnet_cli.model.config import SkillNetConfig
from skillnet_cli.model.skillnet import SkillNet
from skillnet_cli.plugins import Registry


def embed_query(
    model: SkillNet, readers: Mapping[str, Reader], config: SkillNetConfig, registry: Registry, query: str
) -> tuple[str, Float[Tensor, " hidden"]]:
    """The skill and the vector of a text, or of a file where ``query`` is the path of one.

    Args:
        model: needs only what :func:`skillnet_cli.inference.capabilities.needed_for` says of :func:`asking_skill`.
        config: the whole model's, which says what its skills were trained for.

    Raises:
        DamagedItem: it cannot be read.
        UserError: the file is of a kind that the model does not embed.
    """
    skill, source = _what(config, registry, query)
    if route_of(config, skill) == "transcript":
        source = Transcriber(model, readers, transcribing_task(config)).transcribe(Path(query)).text
        skill = query_skill(config)
    encoded = encode_sources(model, readers, skill, [source])
    for _, reason in encoded.damaged:
        raise DamagedItem(reason)
    return skill, encoded.vectors[0]


def asking_skill(config: SkillNetConfig, registry: Registry, query: str) -> str:
    """The skill that reads a query. Raises UserError where it is a file that the model does not embed."""
    return _what(config, registry, query)[0]


def _what(config: SkillNetConfig, registry: Registry, query: str) -> tuple[str, Source]:
    """The skill that reads a query, and what it reads."""
    path = Path(query)
    if not _is_file(path):
        return query_skill(config), query
    modality = registry.modality_of_suffix(path.suffix)
    if modality is None or route_of(config, modality.skill) is None:
        kind = f"of skill {modality.skill}" if modality else "of none of them"
        raise UserError(f"{query}: the model embeds {', '.join(embeddable(config))}, and this file is {kind}")
    return modality.skill, path


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a sentence may be too long for a path, or hold a null byte
        return False
