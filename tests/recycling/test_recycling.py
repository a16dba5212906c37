"""The development loop: what each variant trains, what it leaves, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from models import config, load_state, random_state, same_bits, save_model
from recycling_models import CHAT, make_bases, text_rows, write_recipe, write_rows
from transformers import AutoTokenizer

import ftt_hub
from ftt_hub.errors import FttError, IncompatibleError, MissingExtraError, RecycleError
from ftt_hub.recycling import extra
from ftt_hub.recycling.plan import make_plan
from ftt_hub.recycling.recipe import read_recipe
from ftt_hub.recycling.recycle import Recycled
from ftt_hub.recycling.rows import tokenize
from ftt_hub.recycling.steps import result_step, steps_of


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("loop")


@pytest.fixture(scope="module")
def bases(root: Path) -> list[Path]:
    return make_bases(root, 3)


@pytest.fixture(scope="module")
def done(root: Path, bases: list[Path]) -> tuple[Recycled, list[str]]:
    """All variants over two versions, published into a folder registry."""
    recipe = write_recipe(
        root,
        bases[:2],
        variant=["iterative", "none"],
        keep_models=True,
        license="mit",
        languages=["en"],
        name="counting",
        publish={"name": "me/counting", "registry": "registry"},
    )
    notes: list[str] = []
    return ftt_hub.recycle(recipe, note=notes.append), notes


def test_each_variant_recycles_what_the_paper_says() -> None:
    names = {v: [result_step(v, i).name for i in (1, 2, 3, 4)] for v in ("direct", "iterative")}
    assert names["direct"] == ["1", "1-2", "2-3", "3-4"]
    assert names["iterative"] == ["1", "1-2", "1-2-3", "1-2-3-4"]
    assert [result_step("none", i).name for i in (1, 2, 3)] == ["1", "2", "3"]


def test_no_fine_tuning_is_done_twice_and_none_before_its_parent() -> None:
    steps = steps_of(("iterative", "direct", "none"), 3)
    assert [step.name for step in steps] == ["1", "2", "1-2", "3", "2-3", "1-2-3"]
    for place, step in enumerate(steps):
        assert step.parent is None or step.parent in steps[:place]


def test_an_adapter_gives_the_fine_tuned_model_on_its_base(
    done: tuple[Recycled, list[str]], bases: list[Path], tmp_path: Path
) -> None:
    out = done[0].out
    ftt_hub.apply(out / "adapters" / "1-2", bases[1], tmp_path / "merged")
    rebuilt, tuned = load_state(tmp_path / "merged"), load_state(out / "models" / "1-2")
    assert rebuilt.keys() == tuned.keys()
    assert all(same_bits(rebuilt[name], tuned[name]) for name in tuned)
    assert {t.dtype for t in tuned.values()} == {torch.bfloat16}
    assert (out / "models" / "1-2" / "config.json").read_bytes() == (
        tmp_path / "merged" / "config.json"
    ).read_bytes()


def test_a_manifest_names_its_parent_and_its_training(done: tuple[Recycled, list[str]]) -> None:
    out = done[0].out
    first, second = (
        ftt_hub.TransferAdapter.from_pretrained(out / "adapters" / name).config
        for name in ("1", "1-2")
    )
    assert first.parents == []
    assert second.parents == [
        {"ref": "me/counting-iterative@v1.0.0", "content_digest": first.content_digest}
    ]
    assert second.hyperparameters["learning_rate"] == 2e-3
    assert second.license == "mit"
    assert "me/counting-iterative@v1.0.0" in (out / "adapters" / "1-2" / "README.md").read_text()


def test_each_variant_s_adapters_are_versions_of_one_name(
    done: tuple[Recycled, list[str]], root: Path
) -> None:
    published = [row["published"] for row in done[0].variants["iterative"]]
    assert published[1] == ["me/counting-iterative@v2.0.0"]
    for name in ("iterative", "none"):
        versions = ftt_hub.versions(f"me/counting-{name}", registry=root / "registry")
        assert len(versions) == 2


def test_losses_are_of_the_base_the_start_and_the_result(
    done: tuple[Recycled, list[str]],
) -> None:
    recycled = done[0].variants["iterative"][1]["losses"]
    alone = done[0].variants["none"][1]["losses"]
    assert recycled["base"]["value"] == alone["start"]["value"]
    assert recycled["start"]["value"] < recycled["base"]["value"]
    assert recycled["tuned"]["value"] < alone["tuned"]["value"]
    history = json.loads((done[0].out / "histories" / "1-2.json").read_text())
    assert [row["step"] for row in history if "loss" in row] == [1, 2, 3, 4, 5, 6]


def test_the_verdict_is_shown_before_delta_is_added(done: tuple[Recycled, list[str]]) -> None:
    shown = [line for line in done[1] if "Δ of step 1 on" in line]
    assert len(shown) == 1
    assert "compatible" in shown[0]


def test_a_second_run_touches_nothing(
    done: tuple[Recycled, list[str]], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {p: p.stat().st_mtime_ns for p in (done[0].out / "adapters").rglob("*")}
    monkeypatch.setattr("ftt_hub.recycling.tuning.Tuning.run", None)
    again = ftt_hub.recycle(root / "recipe.yaml")
    assert again == done[0]
    assert {p: p.stat().st_mtime_ns for p in files} == files
    assert not any((done[0].out / "work").iterdir())


def test_a_finished_step_is_not_redone_under_another_recipe(
    done: tuple[Recycled, list[str]], root: Path, bases: list[Path], tmp_path: Path
) -> None:
    for name in ("train.jsonl", "held_out.jsonl"):
        shutil.copyfile(root / name, tmp_path / name)
    recipe = write_recipe(tmp_path, bases[:1], training={"max_steps": 7}, out=str(done[0].out))
    with pytest.raises(RecycleError, match=r"step 1 is finished.*another max_steps"):
        ftt_hub.recycle(recipe)


def test_another_adapter_in_the_place_of_a_parent_is_refused(
    bases: list[Path], tmp_path: Path
) -> None:
    ftt_hub.recycle(write_recipe(tmp_path, bases[:1], training={"max_steps": 2}))
    place = tmp_path / "out" / "adapters" / "1"
    shutil.rmtree(place)
    ftt_hub.extract(bases[0], bases[1], place)
    with pytest.raises(RecycleError, match="not the adapter that step 1 made"):
        ftt_hub.recycle(write_recipe(tmp_path, bases[:2], training={"max_steps": 2}))


def test_a_dry_run_tells_steps_memory_and_disk_and_writes_nothing(
    bases: list[Path], tmp_path: Path
) -> None:
    plan = make_plan(read_recipe(write_recipe(tmp_path, bases, variant="direct")))
    assert [(s.name, s.parent, s.status) for s in plan.steps] == [
        ("1", None, "to do"),
        ("2", None, "to do"),
        ("1-2", "1", "to do"),
        ("2-3", "2", "to do"),
    ]
    assert plan.steps[1].variants == ()
    parameters = sum(t.numel() for t in load_state(bases[0]).values())
    assert plan.steps[0].parameters == parameters
    assert plan.steps[0].memory > 16 * parameters
    assert plan.disk > sum(step.adapter for step in plan.steps)
    assert not (tmp_path / "out").exists()


def test_the_defaults_are_the_paper_s(bases: list[Path], tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        f"bases: [{bases[0]}]\ndataset: {{train: org/rows}}\n", encoding="utf-8"
    )
    training = read_recipe(tmp_path / "r.yaml").training
    assert (training.learning_rate, training.schedule, training.warmup) == (5e-6, "linear", 0.03)
    assert (training.batch_size, training.sequence_length) == (8, 2048)
    assert training.weight_decay == 0.0


def test_a_number_may_be_written_as_people_do(bases: list[Path], tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, bases[:1])
    text = recipe.read_text().replace("learning_rate: 0.002", "learning_rate: 5e-6")
    recipe.write_text(text)
    assert read_recipe(recipe).training.learning_rate == 5e-6


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("learning_rate: 0.002", "learning_rat: 1", r"line 9: unknown key 'learning_rat'"),
        ("learning_rate: 0.002", "learning_rate: much", r"line 9: .*learning_rate"),
        ("device: cpu", "device: tpu", r"line 15: unknown device 'tpu'"),
        ("train: train.jsonl", "train: none.jsonl", r"line 6: no such file"),
        ("m1", "m9", r"line 2: no such folder"),
        ("batch_size: 4", "per_device_batch_size: 3", r"line 10: batch_size is not a multiple"),
    ],
)
def test_a_mistake_in_a_recipe_is_told_with_its_line(
    bases: list[Path], tmp_path: Path, old: str, new: str, message: str
) -> None:
    recipe = write_recipe(tmp_path, bases)
    recipe.write_text(recipe.read_text().replace(old, new, 1))
    with pytest.raises(RecycleError, match=message):
        read_recipe(recipe)


def test_a_row_that_cannot_be_parsed_is_named_by_its_line(
    bases: list[Path], tmp_path: Path
) -> None:
    recipe = write_recipe(tmp_path, bases[:1])
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write('{"text": "w1 w2"\n')
    with pytest.raises(FttError, match=r"train\.jsonl, line 25: not a line of JSON"):
        ftt_hub.recycle(recipe)


def test_an_empty_split_is_refused(bases: list[Path], tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, bases[:1])
    (tmp_path / "train.jsonl").write_text("\n")
    with pytest.raises(RecycleError, match=r"train\.jsonl: the split is empty"):
        ftt_hub.recycle(recipe)
    assert not list((tmp_path / "out" / "data").glob("rows-*"))


def test_a_chat_needs_a_chat_template(bases: list[Path], tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "w1 w2"}, {"role": "assistant", "content": "w3"}]
    write_rows(tmp_path / "train.jsonl", [{"messages": chat}] * 4)
    write_rows(tmp_path / "held_out.jsonl", text_rows(4))
    recipe = write_recipe(tmp_path, bases[:1])
    with pytest.raises(FttError, match=r"line 1: the tokenizer has no chat template"):
        ftt_hub.recycle(recipe)
    (tmp_path / "template.jinja").write_text(CHAT)
    given = {"train": "train.jsonl", "chat_template": "template.jinja"}
    ftt_hub.recycle(write_recipe(tmp_path, bases[:1], dataset=given, training={"max_steps": 2}))
    assert (tmp_path / "out" / "adapters" / "1" / "chat_template.jinja").read_text() == CHAT


def test_only_what_the_assistant_says_is_learned(tmp_path: Path, family: object) -> None:
    words = AutoTokenizer.from_pretrained(family.source)  # type: ignore[attr-defined]
    words.chat_template = CHAT
    chat = [
        {"role": "user", "content": "w1 w2"},
        {"role": "assistant", "content": "w3 w4"},
        {"role": "user", "content": "w5"},
        {"role": "assistant", "content": "w6"},
    ]
    rows = tokenize(
        write_rows(tmp_path / "c.jsonl", [{"messages": chat}]), words, tmp_path / "rows", length=64
    )
    labels = rows.open()[0]["labels"]
    learned = words.convert_ids_to_tokens([label for label in labels if label != -100])
    assert learned == ["w3", "w4", "</s>", "w6", "</s>"]


def test_text_and_completions_end_and_long_rows_are_cut(tmp_path: Path, family: object) -> None:
    words = AutoTokenizer.from_pretrained(family.source)  # type: ignore[attr-defined]
    given = [
        {"text": "w1 w2"},
        {"prompt": "w1 w2 ", "completion": "w3"},
        {"text": " ".join(["w7"] * 20)},
        {"prompt": " ".join(["w7"] * 20), "completion": " w3"},
    ]
    source = write_rows(tmp_path / "r.jsonl", given)
    rows = tokenize(source, words, tmp_path / "rows", length=10)
    found = [row["labels"] for row in rows.open()]
    ids = words.convert_tokens_to_ids
    assert found[0] == [*ids(["w1", "w2"]), 2]
    assert found[1] == [-100, -100, *ids(["w3"]), 2]
    assert found[2] == ids(["w7"] * 10)
    assert (rows.count, rows.cut, rows.dropped) == (3, 2, 1)


def test_the_rows_of_a_dataset_folder_are_read(bases: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    write_rows(folder / "train.jsonl", text_rows(8))
    write_rows(folder / "validation.jsonl", text_rows(6, first=3))
    given = {"train": "./rows", "validation_split": "validation"}
    recipe = write_recipe(tmp_path, bases[:1], dataset=given, training={"max_steps": 2})
    result = ftt_hub.recycle(recipe)
    assert result.variants["iterative"][0]["losses"]["tuned"]["tokens"] > 64
    given["validation_split"] = "nothing"
    with pytest.raises(
        RecycleError, match=r"no such dataset.*split nothing|split nothing.*no such"
    ):
        ftt_hub.recycle(write_recipe(tmp_path, bases[:1], dataset=given))


def test_base_versions_of_different_shapes_are_refused_before_anything_is_trained(
    bases: list[Path], tmp_path: Path
) -> None:
    state = {n: t for n, t in random_state(5).items() if ".layers.1." not in n}
    other = save_model(tmp_path / "other", state, config(num_hidden_layers=1))
    notes: list[str] = []
    with pytest.raises(IncompatibleError, match="tensors are missing"):
        ftt_hub.recycle(write_recipe(tmp_path, [bases[0], other]), note=notes.append)
    assert any("not compatible" in line for line in notes)
    assert not (tmp_path / "out").exists()


def test_a_stranger_of_the_same_shape_is_refused_by_its_weights(
    bases: list[Path], tmp_path: Path
) -> None:
    stranger = save_model(tmp_path / "stranger", random_state(99), config())
    recipe = write_recipe(tmp_path, [bases[0], stranger], training={"max_steps": 2})
    with pytest.raises(IncompatibleError, match=r"step 1-2: Δ of step 1"):
        ftt_hub.recycle(recipe)
    assert (tmp_path / "out" / "adapters" / "1").is_dir()


def test_a_loss_that_is_no_number_stops_and_the_last_sound_state_stays(
    bases: list[Path], tmp_path: Path
) -> None:
    settings = {"learning_rate": 1e30, "checkpoint_steps": 1, "warmup": 0.5}
    recipe = write_recipe(tmp_path, bases[:1], training=settings)
    with pytest.raises(RecycleError, match=r"not a number.*learning_rate.*checkpoint-\d"):
        ftt_hub.recycle(recipe)
    kept = sorted((tmp_path / "out" / "work" / "1" / "checkpoints").glob("checkpoint-*"))
    assert kept
    assert all(torch.isfinite(t).all() for t in load_state(kept[-1]).values())
    assert not (tmp_path / "out" / "adapters" / "1").exists()


def test_a_gpu_that_is_not_there_is_not_asked_for_twice(
    bases: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    recipe = write_recipe(tmp_path, bases[:1], training={"device": "cuda"})
    with pytest.raises(RecycleError, match="asks for a GPU and there is none"):
        ftt_hub.recycle(recipe)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["no_such_thing", "output_dir"])
def test_arguments_of_the_trainer_are_checked(bases: list[Path], tmp_path: Path, name: str) -> None:
    recipe = write_recipe(tmp_path, bases[:1], training={"arguments": {name: 1}})
    with pytest.raises(RecycleError, match=name):
        ftt_hub.recycle(recipe)


def test_a_logger_that_is_not_installed_is_named(bases: list[Path], tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, bases[:1], training={"report_to": ["neptunes"]})
    with pytest.raises(RecycleError, match=r"report_to: neptunes: not installed.*pip install"):
        ftt_hub.recycle(recipe)


def test_a_missing_extra_is_named_with_the_command(
    bases: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extra, "find_spec", lambda name: None if name == "trl" else name)
    with pytest.raises(MissingExtraError, match=r"needs trl.*pip install 'ftt-hub\[train\]'"):
        ftt_hub.recycle(write_recipe(tmp_path, bases[:1]))


def test_two_runs_do_not_share_a_folder(bases: list[Path], tmp_path: Path) -> None:
    from filelock import FileLock

    recipe = write_recipe(tmp_path, bases[:1])
    (tmp_path / "out").mkdir()
    with (
        FileLock(tmp_path / "out" / ".lock"),
        pytest.raises(FttError, match="another run works in this folder"),
    ):
        ftt_hub.recycle(recipe)
