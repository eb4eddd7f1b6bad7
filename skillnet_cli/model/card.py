"""The model card: what a model consists of, what it was trained on, what was measured, and how to load it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Annotated, Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from pydantic import BaseModel, Field

from skillnet_cli.files import write_whole
from skillnet_cli.model.checkpoint import CARD, Weights
from skillnet_cli.model.config import SkillNetConfig, saved_config
from skillnet_cli.terminal import remark
from skillnet_cli.untrusted import read_bytes, validate

LIBRARY = "skillnet"
MOST_BYTES = 4 << 20
"""The largest card that is read."""
_Name = Annotated[str, Field(max_length=1_000, pattern=r"^[^\x00-\x1f\x7f]+$")]


def write_card(folder: Path, results: Iterable[Mapping[str, Any]] = ()) -> None:
    """Write ``README.md`` into a model's folder, where its weights are already.

    Args:
        folder: the model's, whose configuration has been written or checked before.
        results: rows of a run's results.json, or of :func:`results_of`; those of tasks that the model does not have
            are left out.
    """
    config = saved_config(folder)  # its tasks are in the order of the file
    rows = [row for row in results if row["task"] in config.tasks]
    text = f"---\n{_front_matter(config, rows, folder.resolve().parent.name)}\n---\n\n{_body(folder, config, rows)}"
    write_whole(folder / CARD, text.encode())


class _Result(BaseModel):
    """A figure in a card's front matter, as the hub has it."""

    task_name: _Name
    dataset_name: _Name
    dataset_split: _Name | None = None
    dataset_revision: _Name | None = None
    dataset_args: dict[str, Any] | None = None
    metric_type: _Name
    metric_value: Annotated[float, Field(strict=True, allow_inf_nan=False)]

    @property
    def items(self) -> int | None:
        """How many items it was measured on."""
        items = (self.dataset_args or {}).get("items")
        return items if isinstance(items, int) else None


def results_of(folder: Path) -> list[dict[str, Any]]:
    """The results in a model's card, as rows of a results.json; none where the card has none or is another's.

    A card that cannot be read, or a row that is no result, is said on standard error: it is for people, and the model
    is sound without it.
    """
    path = folder / CARD
    try:
        content = str(read_bytes(path, MOST_BYTES), "utf-8")
        found = getattr(ModelCard(content).data, "eval_results", None) or []
        rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        for each in (validate(_Result, vars(each)) for each in found):
            key = (each.task_name, each.dataset_name, each.dataset_split, each.dataset_revision or "")
            row = rows.setdefault(key, dict(zip(("task", "set", "split", "checksum"), key, strict=True), metrics={}))
            row["metrics"][each.metric_type] = each.metric_value
            row["items"] = each.items
    except FileNotFoundError:
        return []
    except Exception as error:  # huggingface_hub raises whatever YAML and its own checks stumble over
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        remark(f"{path}: its results are left out: {reason}")
        return []
    return list(rows.values())


def _front_matter(config: SkillNetConfig, rows: Sequence[Mapping[str, Any]], name: str) -> str:
    sets = {each for task in config.tasks.values() for each in task["datasets"]}
    data = ModelCardData(
        library_name=LIBRARY,
        tags=[LIBRARY, *config.skills],
        datasets=sorted(sets) or None,
        model_name=name,
        eval_results=[each for row in rows for each in _eval_results(config, row)] or None,
        ignore_metadata_errors=False,
    )
    return str(data.to_yaml())


def _eval_results(config: SkillNetConfig, row: Mapping[str, Any]) -> list[EvalResult]:
    return [
        EvalResult(
            task_type=config.task(row["task"]).objective,
            task_name=row["task"],
            dataset_type=row["set"],
            dataset_name=row["set"],
            dataset_split=row["split"],
            # The hub takes for one what has the same type, set, config, split and revision, whatever its task's name.
            dataset_config=row["task"],
            dataset_revision=row.get("checksum") or None,
            dataset_args={"items": row.get("items")},
            metric_type=metric,
            metric_value=value,
        )
        for metric, value in row["metrics"].items()
        if value is not None  # it was not finite
    ]


def _body(folder: Path, config: SkillNetConfig, rows: Sequence[Mapping[str, Any]]) -> str:
    tasks = [config.task(name) for name in config.tasks]
    parameters = Weights.open(folder).parameters_by_part()
    sections = [
        f"# A SkillNet of {', '.join(config.skills)}",
        "One sparsely activated Transformer: every skill owns its query, key and value projections, the rest is "
        "shared, and a task loads and computes only what it activates.",
        "## Tasks",
        _table(
            ("task", "skills", "objective", "trained on"),
            [(task.name, ", ".join(task.skills), task.objective, ", ".join(task.datasets)) for task in tasks],
        ),
        "## Results",
        _table(
            ("task", "set", "checksum", "items", "metric", "value"),
            [
                (
                    row["task"],
                    f"{row['set']}:{row['split']}",
                    row.get("checksum") or "",
                    row.get("items") or "",
                    metric,
                    "not finite" if value is None else f"{value:.4f}",
                )
                for row in rows
                for metric, value in row["metrics"].items()
            ],
        )
        if rows
        else "Nothing was measured yet: `skillnet eval --task TASK` does, and writes it here.",
        "## Skills",
        _table(
            ("skill", "plugin", "version"),
            [(name, facts["plugin"], facts["version"]) for name, facts in config.skills.items()],
        ),
        "## Parameters",
        _table(("part", "parameters"), [(part, f"{count:,}") for part, count in parameters.items()]),
        "## Use",
        _use(config),
    ]
    return "\n\n".join(sections) + "\n"


def _use(config: SkillNetConfig) -> str:
    plugins = " ".join(dict.fromkeys(facts["plugin"] for facts in config.skills.values()))
    chosen = f"tasks=[{next(iter(config.tasks))!r}]" if config.tasks else f"skills=[{next(iter(config.skills))!r}]"
    return (
        f"    pip install skillnet-cli {plugins}\n\n"
        "```python\nfrom skillnet_cli.model import SkillNet\n\n"
        f"model = SkillNet.from_pretrained(FOLDER_OR_REPOSITORY, {chosen})  # opens only what that activates\n"
        "reader = model.readers[next(iter(model.readers))]\n```\n\n"
        "transformers' Auto classes open it after one import:\n\n"
        "```python\nimport skillnet_cli.model  # makes them know models of the type skillnet\n"
        "from transformers import AutoModel\n\n"
        "model = AutoModel.from_pretrained(FOLDER_OR_REPOSITORY)\n```"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: Any) -> str:
    """A value in a table: names may hold what would end its cell, or begin markup."""
    return escape(" ".join(str(value).split()), quote=False).replace("|", "\\|")
