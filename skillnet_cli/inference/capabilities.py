"""What the tasks of a model have trained its skills for: to be searched, to be transcribed, or neither."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any, Literal

from skillnet_cli import objectives
from skillnet_cli.api import UserError
from skillnet_cli.model.checkpoint import ASSETS, digest_of_json
from skillnet_cli.model.config import SkillNetConfig
from skillnet_cli.model.parts import SHARED
from skillnet_cli.objectives import Objective, TaskConfig
from skillnet_cli.plugins import Registry


class Capabilities:
    """What can be done with a model's skills, as the objectives of its tasks say.

    A task compares where its objective does: it trains the vectors of its skills, which can then be searched. A task
    transcribes where its objective does. A task whose plugin is not installed does neither.

    Attributes:
        config: the whole model's configuration, though a model may be opened with some of its skills and tasks alone.
        embeddable: the skills that a task which compares has trained, in the order of the tasks.
        classifying: the tasks that give one item of one skill a label.
    """

    def __init__(self, config: SkillNetConfig, registry: Registry) -> None:
        self.config, self._registry = config, registry
        self._comparing = self._tasks_with(lambda objective: objective.compares)
        self._transcribing = self._tasks_with(lambda objective: objective.transcribes)
        self.classifying = [
            task
            for task in self._tasks_with(lambda objective: objective.classifies)
            if len(task.towers) == 1 and len(task.towers[0]) == 1
        ]
        self.embeddable = tuple(dict.fromkeys(skill for task in self._comparing for skill in task.skills))

    def _tasks_with(self, wanted: Callable[[type[Objective]], bool]) -> list[TaskConfig]:
        found = []
        for task in map(self.config.task, self.config.tasks):
            with suppress(UserError):  # no installed plugin brings its objective
                if wanted(objectives.load(task.objective, self._registry)):
                    found.append(task)
        return found

    @property
    def query_skill(self) -> str:
        """The skill of queries: that of the first tower of the tasks that compare.

        Raises:
            UserError: no task compares.
        """
        for task in self._comparing:
            return task.towers[0][-1]
        raise UserError("the model has no contrastive task, so its vectors cannot be searched")

    @property
    def vector_task(self) -> str | None:
        """The task whose vectors a collection holds, where each task has its own; None where all have the same.

        Raises:
            UserError: the model's tasks are separate, and not exactly one of them compares.
        """
        if self.config.routing != "separate":
            return None
        names = [task.name for task in self._comparing]
        if len(names) == 1:
            return names[0]
        raise UserError(
            f"the tasks of this model are separate, so {', '.join(names)} have no vectors in common that a collection "
            "could hold: measure each with skillnet eval, or train the one you want to search with alone"
        )

    def route_of(self, skill: str) -> Literal["content", "transcript"] | None:
        """How items of a skill enter a collection: by the vector of their content or of their transcript, or not."""
        if skill in self.embeddable:
            return "content"
        transcribed = {task.skills[0] for task in self._transcribing}
        return "transcript" if skill in transcribed and self.embeddable else None

    def transcribing_task(self, name: str | None = None) -> TaskConfig:
        """The task that transcribes: the one named, or the only one.

        Raises:
            UserError: no task of that name transcribes, or none at all, or there are several and none is named.
        """
        chosen = [task for task in self._transcribing if name in (None, task.name)]
        if len(chosen) == 1:
            return chosen[0]
        known = ", ".join(task.name for task in self._transcribing)
        if not known:
            raise UserError("no task of the model transcribes")
        if name is None:
            raise UserError(f"several tasks of the model transcribe ({known}): choose one with --task")
        raise UserError(f"the model has no task '{name}' that transcribes: choose one of {known} with --task")

    def classifying_task(self, name: str | None = None, skills: Collection[str] = ()) -> TaskConfig:
        """The task that classifies: the one named, the only one, or the only one that reads what is given.

        Args:
            name: its name, if one is wanted.
            skills: those of the files that are to be classified; empty for texts.

        Raises:
            UserError: no task of that name classifies, none reads such files, or several do and none is named.
        """
        known = ", ".join(f"{task.name} ({task.skills[0]})" for task in self.classifying)
        if not known:
            raise UserError("no task of the model classifies")
        chosen = [task for task in self.classifying if name in (None, task.name)]
        if not chosen:
            raise UserError(f"the model has no task '{name}' that classifies: choose one of {known} with --task")
        if skills and name is None:
            chosen = [task for task in chosen if task.skills[0] in skills]
        if len(chosen) == 1:
            return chosen[0]
        if not chosen:
            raise UserError(f"no task of the model classifies {', '.join(sorted(skills))}; what classifies is {known}")
        raise UserError(f"several tasks of the model classify: choose one of {known} with --task")

    def needed_for(self, skills: Iterable[str]) -> tuple[list[str], list[str]]:
        """The skills and tasks of the model that putting items of ``skills`` into a collection activates.

        Raises:
            UserError: items enter by their transcripts, and no single task of the model transcribes; or its tasks are
                separate, and no single one compares.
        """
        routes = {skill: self.route_of(skill) for skill in skills}
        needed = [skill for skill, route in routes.items() if route == "content"]
        tasks = [] if self.vector_task is None else [self.config.task(self.vector_task)]
        if "transcript" in routes.values():
            needed.append(self.query_skill)  # it reads the transcripts
            tasks.append(self.transcribing_task())
        every = [*needed, *(skill for task in tasks for skill in task.skills)]
        return list(dict.fromkeys(every)), [task.name for task in tasks]

    def checksums(self, parts: Mapping[str, str]) -> dict[str, str]:
        """For every skill whose items enter a collection, a checksum of all that makes their vectors.

        Models of the same checksum give an item the same vector, to the bit, whatever else they have.

        Args:
            parts: of the model: :func:`~skillnet_cli.model.checkpoint.checksums_by_part`.
        """
        found = {}
        for skill in self.config.skills:
            with suppress(UserError):  # several tasks could make them, and none is chosen
                if (route := self.route_of(skill)) is not None:
                    maker = [self._made_by(skill if route == "content" else self.query_skill, self.vector_task, parts)]
                    if route == "transcript":
                        task = self.transcribing_task()
                        maker += [self._made_by(skill, task.name, parts), self._head_of(task, parts), list(task.labels)]
                    found[skill] = digest_of_json(maker)
        return found

    def _made_by(self, skill: str, task: str | None, parts: Mapping[str, str]) -> list[Any]:
        """What turns an item of a skill into tokens; ``task`` is whose, where tasks are separate."""
        separate = self.config.routing == "separate"
        own = [f"task:{task}"] if separate else [SHARED, f"skill:{skill}", f"embedder:{skill}"]
        facts = [self.config.encoder_settings(), self.config.skills[skill]["embedder"]]
        return [*facts, {part: parts.get(part) for part in [*own, f"{ASSETS}:{skill}"]}]

    def _head_of(self, task: TaskConfig, parts: Mapping[str, str]) -> list[str | None]:
        objective = objectives.load(task.objective, self._registry)(task, self.config.similarity)
        return [parts.get(f"task:{head}") for head in objective.heads(self.config.hidden)]

    def untrained_pairs(self, skill: str, others: Iterable[str]) -> list[str]:
        """Those of ``others`` whose vectors no task has compared with those of ``skill``."""
        # Sets, as a comparison has no direction; a skill that was compared with any other also compares with itself.
        trained = {frozenset(task.skills) for task in self._comparing}
        trained |= {frozenset([each]) for each in self.embeddable}
        return sorted({other for other in others if frozenset([skill, other]) not in trained})
