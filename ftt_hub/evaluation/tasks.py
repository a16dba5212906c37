"""Tasks by name, as a local YAML file, as JSONL rows, or by a shipped setting; loaded once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ftt_hub.errors import TaskError
from ftt_hub.evaluation.harness import quiet, require_harness, task_errors
from ftt_hub.evaluation.rows import SUFFIXES, read_rows
from ftt_hub.evaluation.settings import Setting, read_setting

_YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class Asked:
    """Options for every task; ``None``: as the setting or the task says.

    Attributes:
        num_fewshot: Examples before the question.
        chat_template: Ask in the model's chat template.
        limit: Samples per task; ``None``: all.
    """

    num_fewshot: int | None = None
    chat_template: bool | None = None
    limit: int | None = None


@dataclass(frozen=True)
class LoadedTask:
    """A task or group of tasks of the harness, ready to be run on any number of models.

    Attributes:
        name: Its name in reports: the harness's, or the file's without suffix.
        setting: How it is asked.
        loaded: The harness's own objects: ``tasks``, ``groups``, ``group_map``.
        sha256: Digest of the file, where the task is one.
    """

    name: str
    setting: Setting
    loaded: Any
    sha256: str | None = None

    @property
    def leaves(self) -> dict[str, Any]:
        """Tasks by name, without groups."""
        return dict(self.loaded["tasks"])

    def reseed(self, seed: int) -> None:
        """Draw the same few-shot examples for the next model."""
        for task in self.leaves.values():
            task.set_fewshot_seed(seed=seed)


def load_tasks(
    texts: Sequence[str], settings: Sequence[str], asked: Asked, *, bars: bool = False
) -> list[LoadedTask]:
    """Load tasks in the order given.

    Args:
        texts: Names in the harness, YAML files, or JSONL files.
        settings: Names of shipped settings.
        asked: Options that hold for all of them.
        bars: Whether `datasets` may draw progress bars.

    Raises:
        MissingExtraError: The harness, or what a task needs, is not installed.
        TaskError: Unknown, malformed, twice, or without readable data.
        HubError: Data must be fetched, and the Hub is not reached.
    """
    if not texts and not settings:
        return []
    named: list[tuple[str, Setting]] = [
        *((text, Setting(text)) for text in texts),
        *((name, read_setting(name)) for name in settings),
    ]
    require_harness()
    files = [text for text, _ in named if _is_file(text)]
    with quiet(bars):
        manager = _manager(named=len(files) < len(named))
        tasks = [_load(manager, text, _adjusted(setting, asked)) for text, setting in named]
    names = [task.name for task in tasks]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise TaskError("two tasks have the same name", where=twice, hint="Rename one of them.")
    return tasks


def _is_file(text: str) -> bool:
    return Path(text).suffix.lower() in (*_YAML, *SUFFIXES)


def _manager(*, named: bool) -> Any:
    """The harness's registry; its thousands of files are read only when a name is asked for."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_defaults=named)


def _adjusted(setting: Setting, asked: Asked) -> Setting:
    shots = setting.num_fewshot if asked.num_fewshot is None else asked.num_fewshot
    chat = setting.chat_template if asked.chat_template is None else asked.chat_template
    return replace(setting, num_fewshot=shots, chat_template=chat)


def _load(manager: Any, text: str, setting: Setting) -> LoadedTask:
    path = Path(text)
    if path.suffix.lower() in SUFFIXES:
        rows = read_rows(path)
        name = path.name.removesuffix(path.suffix)
        if setting.num_fewshot:
            raise TaskError(
                "rows of a file have no examples to show first",
                where=path,
                hint="Leave out --num-fewshot, or write the task as YAML.",
            )
        with task_errors(text):
            loaded = manager.load([rows.config(name)])
        return LoadedTask(name, setting, loaded, rows.sha256)
    if path.suffix.lower() in _YAML:
        return _load_yaml(manager, path, setting)
    if setting.task not in manager.task_index:
        raise TaskError("no such task", where=setting.task, hint=_similar(setting.task, manager))
    with task_errors(setting.task):
        task = LoadedTask(setting.task, setting, manager.load([setting.task]))
        _configure(task)
    return task


def _load_yaml(manager: Any, path: Path, setting: Setting) -> LoadedTask:
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise TaskError("cannot read the task", where=path, found=error.strerror) from error
    with task_errors(str(path)):
        loaded = manager.load([str(path)])
        name = next(iter(loaded["groups"] or loaded["tasks"]))
        task = LoadedTask(str(name), setting, loaded, digest)
        _configure(task)
    return task


def _configure(task: LoadedTask) -> None:
    """Give every task of a group the few-shot number and the arguments of generation."""
    for leaf in task.leaves.values():
        if getattr(leaf, "UNSAFE_CODE", False):
            raise TaskError(
                "the task runs code that models write",
                where=leaf.task_name,
                hint="Run it with lm-evaluation-harness itself, in a sandbox.",
            )
        shots = task.setting.num_fewshot
        leaf.set_config(key="num_fewshot", value=_shots(leaf) if shots is None else shots)
        if task.setting.generation and leaf.get_config("output_type") == "generate_until":
            leaf.set_config(key="generation_kwargs", value=task.setting.generation, update=True)


def _shots(leaf: Any) -> int:
    return int(leaf.get_config("num_fewshot") or 0)


def _similar(name: str, manager: Any) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, manager.all_tasks, n=3)
    guess = f"Did you mean {' or '.join(close)}? " if close else ""
    return f"{guess}lm-eval ls tasks lists all; files end in .yaml or .jsonl."
