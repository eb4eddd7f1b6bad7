"""What a recipe may say: its sections, their keys, and the range of each."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from skillnet_cli.api import SourceCheckpoint

Share = Annotated[float, Field(ge=0, lt=1)]
SectionT = TypeVar("SectionT", bound="_Section")


_LARGEST_SEED = (1 << 63) - 1
"""What torch's generators take, and what TOML has room for."""


class _Section(BaseModel):
    """A table of a recipe: no unknown keys, no silent conversions, only finite numbers, no changes later."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class EncoderSection(_Section):
    """The Transformer (paper §3.2, §5.1): of a recipe, and of a model's ``config.json``.

    ``routing`` is the paper's SkillNet (``skill``) or one of the systems that it is compared with. With ``skill``,
    ``routed`` says which modules of a layer every skill owns; with ``moe``, ``balance`` is the weight of the experts'
    balance loss. ``similarity`` is how vectors are compared, in training and in search. The bounds are far beyond what
    is trained: a number that somebody else has written must not take all memory or time.
    """

    layers: Annotated[PositiveInt, Field(le=512)] = 12
    hidden: Annotated[PositiveInt, Field(le=16_384)] = 768
    heads: Annotated[PositiveInt, Field(le=1_024)] = 12
    ffn: Annotated[PositiveInt, Field(le=131_072)] = 3072
    norm: Literal["pre", "post"] = "pre"
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    similarity: Literal["cosine", "dot"] = "cosine"
    dropout: Share = 0.0
    routing: Literal["skill", "dense", "moe", "separate"] = "skill"
    routed: Annotated[tuple[Literal["qkv", "out", "ffn", "norm"], ...], Field(strict=False, min_length=1)] = ("qkv",)
    balance: NonNegativeFloat = 0.01

    @field_validator("heads")
    @classmethod
    def _heads_divide_hidden(cls, heads: int, info: Any) -> int:
        hidden = info.data.get("hidden")
        if hidden and hidden % heads:
            raise ValueError(f"must divide hidden = {hidden}, and {heads} does not")
        return heads

    @field_validator("routed")
    @classmethod
    def _once(cls, routed: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(routed)) < len(routed):
            raise ValueError("names a module twice")
        return routed

    @field_validator("routed", "balance")
    @classmethod
    def _fits_routing(cls, value: Any, info: Any) -> Any:
        """A setting of one routing has no effect with another: only its default is accepted there."""
        needed = {"routed": "skill", "balance": "moe"}[info.field_name]
        given = info.data.get("routing", needed)
        if given != needed and value != cls.model_fields[info.field_name].default:
            raise ValueError(f"is for routing = '{needed}', and routing is '{given}'")
        return value


class ModelSection(EncoderSection):
    """The Transformer and, for each skill, its plugin's own table of keys."""

    embedders: dict[str, dict[str, Any]] = Field(default_factory=dict)


class InitSection(_Section):
    """A pretrained model that starts a skill: a folder, or a hub's ``OWNER/NAME[@REVISION]``.

    Written ``SKILL = "…"``, or ``SKILL = { from = "…", shared = false }`` to leave the parts that all skills share
    as they are.
    """

    source: str = Field(alias="from", min_length=1)
    shared: bool = True

    @model_validator(mode="before")
    @classmethod
    def _source_alone(cls, value: Any) -> Any:
        return {"from": value} if isinstance(value, str) else value

    def starts_shared(self, checkpoint: SourceCheckpoint) -> bool:
        """Whether the checkpoint's tensors go into the parts that all skills share."""
        return self.shared and bool(checkpoint.encoder)

    def mismatches(self, checkpoint: SourceCheckpoint, model: Mapping[str, Any]) -> Iterator[str]:
        """A message for each key of ``[model]``, given by ``model``, in which the checkpoint's Transformer differs."""
        for key, wanted in checkpoint.encoder.items():
            # Projections depend on these sizes, so they must agree even where the shared parts do not start from it.
            needed = self.shared or key in ("layers", "hidden", "heads")
            if needed and model[key] != wanted:
                yield f"needs model.{key} = {json.dumps(wanted)}, and the recipe has {json.dumps(model[key])}"

    @model_serializer
    def _as_written(self) -> Any:
        return self.source if self.shared else {"from": self.source, "shared": False}


class OptimizerSection(_Section):
    """AdamW (Loshchilov and Hutter 2019); biases, norms, tables, ``[CLS]`` and temperatures are never decayed."""

    weight_decay: NonNegativeFloat = 0.01
    betas: Annotated[tuple[Share, Share], Field(strict=False)] = (0.9, 0.98)
    eps: PositiveFloat = 1e-6


class CheckpointSection(_Section):
    """Every how many steps the training state is saved, and how many of them are kept.

    ``best`` says of which evaluations the model is kept: the best of each task (``tasks``), of all of them (``mean``).
    """

    every: PositiveInt = 1_000
    keep: PositiveInt = 2
    best: Annotated[tuple[Literal["tasks", "mean"], ...], Field(strict=False)] = ()


class EmaSection(_Section):
    """The moving average of each parameter over the updates that changed it."""

    kind: Literal["ema"]
    decay: Share = 0.9999


class LastSection(_Section):
    """The mean of the parameters in the last ``count`` checkpoints, taken when the stage ends."""

    kind: Literal["last"]
    count: PositiveInt = 5


Average = Annotated[EmaSection | LastSection, Field(discriminator="kind")]


class _EvalSection(_Section):
    """Every how many steps each task is measured, on how many items of its dev split."""

    every: PositiveInt
    items: PositiveInt = 2_000


class _TrainSection(_Section):
    """What both stages share; a stage may override each key.

    ``clip`` is the largest gradient norm, ``max_skipped_updates`` the number of updates in a row that may be skipped,
    because their loss or gradient is not finite, before the run stops; ``workers`` the number of processes that read
    ahead. With ``augment`` training items are changed a little, as each skill's plugin says; with ``mask_duplicates``
    a contrastive loss leaves out the pairs of a batch that share a caption or a picture, instead of pushing them apart.
    ``freeze`` names parts of the model that stay as they are: ``shared``, ``skill:S``, ``embedder:S``, ``task:T``.
    ``average``: what is measured and exported are averages of the parameters. With ``deterministic`` a GPU uses only
    operations that give the same bits every time. ``timeout`` is how many seconds a process may do nothing while others
    wait for it; then they end. With ``debug`` the processes compare what they train, and their parameters, as they go.
    """

    precision: Literal["auto", "bf16", "fp32"] = "auto"
    strategy: Literal["auto", "replicate", "fsdp"] = "auto"
    optimizer: OptimizerSection = OptimizerSection()
    schedule: Literal["linear", "constant"] = "linear"
    clip: PositiveFloat = 1.0
    max_skipped_updates: PositiveInt = 10
    workers: NonNegativeInt = 1
    augment: bool = True
    mask_duplicates: bool = True
    freeze: Annotated[tuple[str, ...], Field(strict=False)] = ()
    deterministic: bool = False
    timeout: PositiveFloat = 600.0
    debug: bool = False
    checkpoints: CheckpointSection = CheckpointSection()
    eval: _EvalSection | None = None
    average: Average | None = None


class StageTask(_Section):
    """A task of a stage: its sets (mixed by size, or by the weights given), items an update, and share of updates.

    To save memory, an update's ``batch`` may be computed in pieces of ``micro_batch`` items (a contrastive task still
    compares all of the batch), and with ``recompute`` the layers' activations are recomputed in the backward pass.
    """

    datasets: dict[str, PositiveFloat | None] = Field(min_length=1)
    batch: PositiveInt
    ratio: PositiveInt = 1
    micro_batch: PositiveInt | None = None
    recompute: bool = False

    @field_validator("datasets", mode="before")
    @classmethod
    def _names_alone(cls, value: Any) -> Any:
        is_names = isinstance(value, list) and all(isinstance(name, str) for name in value)
        return dict.fromkeys(value) if is_names else value

    @field_serializer("datasets")
    def _names_or_weights(self, value: dict[str, float | None]) -> dict[str, float | None] | list[str]:
        return list(value) if None in value.values() else value


class Stage(_TrainSection):
    """A stage of training: so many updates of the tasks in the mix of their ratios."""

    steps: PositiveInt
    lr: PositiveFloat
    warmup: NonNegativeInt = 0
    tasks: dict[str, StageTask] = Field(min_length=1)


class _FinetuneStage(Stage):
    """Fine-tuning starts from the run's ``"pretrain"`` stage, from ``"fresh"`` parameters, or from a model's folder."""

    start_from: str = "pretrain"


class Recipe(_Section):
    """A model, what starts its parameters, and the one or two stages that train it."""

    name: str
    seed: Annotated[NonNegativeInt, Field(le=_LARGEST_SEED)] = 1
    model: ModelSection = ModelSection()
    init: dict[str, InitSection] = Field(default_factory=dict)
    train: _TrainSection = _TrainSection()
    pretrain: Stage | None = None
    finetune: _FinetuneStage | None = None

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise ValueError("must consist of letters, digits, '.', '_' and '-', and not begin with '.' or '-'")
        return name

    @model_validator(mode="after")
    def _has_a_stage(self) -> Recipe:
        if self.pretrain is None and self.finetune is None:
            raise ValueError("needs a stage: [pretrain], [finetune] or both")
        return self

    def stages(self) -> dict[str, Stage]:
        """The stages that the recipe has, by name, in their order."""
        return {name: stage for name in ("pretrain", "finetune") if (stage := getattr(self, name)) is not None}

    def with_inherited(self) -> Recipe:
        """The same recipe, every key that a stage leaves unsaid taken from ``[train]``."""
        return self.model_copy(update={name: _inherit(stage, self.train) for name, stage in self.stages().items()})

    def task_names(self) -> tuple[str, ...]:
        """The tasks of both stages, each once."""
        return tuple(dict.fromkeys(name for stage in self.stages().values() for name in stage.tasks))


def _inherit(child: SectionT, parent: _Section) -> SectionT:
    """``child`` with each of ``parent``'s keys that it does not set itself, tables inside it alike."""
    taken: dict[str, Any] = {}
    for key in type(parent).model_fields:
        theirs, own = getattr(parent, key), getattr(child, key)
        if key not in child.model_fields_set:
            taken[key] = theirs
        elif isinstance(theirs, _Section) and isinstance(own, type(theirs)):  # a table of another kind stands alone
            taken[key] = _inherit(own, theirs)
    return child.model_copy(update=taken)
