"""The ControlNet study: which runs it has, what a run measures, and that an interrupted one measures the same."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import pandas as pd
import pytest
import torch

import difftuning as dt
from difftuning.config import TextToImageConfig
from difftuning.data.captions import CaptionAs, caption_pictures
from difftuning.data.conditions import KINDS
from difftuning.data.tasks import Task
from difftuning.evaluation.chain_of_forgetting import losses_by_tenth
from difftuning.models.loading import load_pretrained
from difftuning.sampling import sample_controlnet
from difftuning.studies import controlnet as study
from difftuning.studies.control_cells import CONTROL_METHODS, ControlCell, control_cells, control_rates
from difftuning.studies.control_gains import steps_saved
from difftuning.studies.controlnet import World, ask, convergence_step, floor_rows, run_control_cell
from difftuning.studies.grid import select_cells
from difftuning.studies.runner import run_study
from difftuning.training.memory_bank import MemoryBank
from difftuning.training.pretrain_text_to_image import untrained_text_to_image
from small import shapes

CELL = ControlCell(
    "segmentation", "Diff-Tuning", 0, 1e-3, batch_size=8, training_pictures=24, task="shapes", called="square", steps=6, check_every=2, checked=6,
    check_sampling_steps=2, samples=8, sampling_steps=2, loss_pictures=4,
)  # fmt: skip


def drawn(n: int, seed: int) -> Task:
    images, labels = shapes(n, seed)
    pictures = (images[:, None].float() / 127.5 - 1).repeat(1, 3, 1, 1)
    return Task("shapes", ["upright", "lying", "square"], labels, lambda chosen: pictures[chosen], 32, f"shapes {n} {seed}", flip=True)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    """An untrained base behind the tiny world's autoencoder: real pictures come through that as themselves."""
    source, training = drawn(12, 1), drawn(40, 0)
    config = TextToImageConfig(width=16, num_heads=2, text_width=16, text_layers=1)
    base = untrained_text_to_image(source, load_pretrained("tiny").autoencoder, config, name="untrained")
    bank = MemoryBank.sample(
        base, 8, folder=tmp_path_factory.mktemp("bank"), labels=caption_pictures(source.images[:8], ["square"] * 8), steps=2, progress=False
    )  # fmt: skip
    return World(base, bank, training, {"validation": drawn(10, 2), "test": drawn(12, 3)}, source)


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "run"
    return folder, run_control_cell(CELL, folder, world)


# which runs


def test_the_main_methods_have_five_seeds_the_parts_three_and_the_banks_options_edge_alone():
    cells = control_cells()
    seeds: dict[tuple[str, str], list[int]] = {}
    for cell in cells:
        seeds.setdefault((cell.kind, cell.method), []).append(cell.seed)
    for kind in KINDS:
        assert seeds[kind, "plain"] == seeds[kind, "Diff-Tuning"] == [0, 1, 2, 3, 4] and seeds[kind, "reconsolidation only"] == [0, 1, 2]
    options = {(kind, method) for kind, method in seeds if method not in ("plain", "Diff-Tuning", "reconsolidation only")}
    assert options == {("edge", "Diff-Tuning, null prompts"), ("edge", "Diff-Tuning, black conditions")}
    assert {cell.split for cell in cells} == {"test"} and {method for _, method in seeds} == set(CONTROL_METHODS)


def test_settings_are_tried_one_at_a_time_where_nothing_is_reported():
    cells = control_rates()
    assert {cell.split for cell in cells} == {"validation"} and {cell.kind for cell in cells} == {"edge"}
    usual = asdict(ControlCell("edge", "plain", 0, split="validation"))
    changed = [{name for name, value in asdict(cell).items() if value != usual[name]} - {"method"} for cell in cells]
    assert max(map(len, changed)) == 1 and set().union(*changed) == {"learning_rate", "batch_size", "training_pictures"}


def test_every_run_has_a_file_of_its_own():
    cells = [*control_cells(), *control_rates()]
    assert len({cell.file_name for cell in cells}) == len(cells)


@pytest.mark.slow
def test_the_studys_runner_adds_each_runs_rows_once_and_floors_beside_the_first_plain_one(world, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "shipped_world", lambda task: world)
    cells, results = [CELL, replace(CELL, method="plain")], tmp_path / "controlnet.csv"
    run_study(select_cells(cells, ["method=Diff-Tuning"]), folder=tmp_path / "runs", results=results)
    first = {path.name: path.read_bytes() for path in tmp_path.glob("*.csv")}
    assert set(first) == {"controlnet.csv", "controlnet_agreement.csv", "controlnet_losses.csv"}
    for _ in range(2):
        run_study(cells, folder=tmp_path / "runs", results=results)
    rows = {suffix: pd.read_csv(tmp_path / f"controlnet{suffix}.csv") for suffix in study.SUFFIXES}
    assert {suffix: len(table) for suffix, table in rows.items()} == {"": 2, "_agreement": 2 * 4, "_losses": 2 * 20, "_floors": 2}
    assert all((tmp_path / name).read_bytes().startswith(text) for name, text in first.items())
    assert not list((tmp_path / "runs").glob("*")) and (tmp_path / "controlnet_samples.npz").is_file()


# what a run measures


@pytest.mark.slow
def test_the_last_check_is_what_the_public_functions_say_of_the_result(world, finished):
    folder, found = finished
    assert [row["step"] for row in found.agreement] == [0, 2, 4, 6]
    model, held_out = dt.load_fine_tuned(folder).model, world.held_out["test"]
    chosen = held_out.subset([0, 2, 4, 6, 8, 11])
    conditions = dt.annotate("segmentation", chosen.images)
    prompts = caption_pictures(chosen.images, ["square"] * 6)  # whichever the class
    images = sample_controlnet(model, prompts, conditions, steps=2, guidance=1, seed=0)
    agreement = dt.condition_agreement("segmentation", conditions, dt.annotate("segmentation", images)).mean()
    assert found.agreement[-1]["agreement"] == pytest.approx(float(agreement), abs=1e-6)
    assert found.pictures.shape == (3, 6, 32, 32)
    assert torch.equal(found.pictures[-1], ((images.mean(1) + 1) * 127.5).round().byte())


@pytest.mark.slow
def test_the_scale_runs_from_the_base_to_real_pictures(world, finished):
    base, real = (row["agreement"] for row in floor_rows(CELL, world))
    for row in finished[1].agreement:
        assert row["scaled"] == pytest.approx((row["agreement"] - base) / (real - base), abs=1e-6)
    assert finished[1].agreement[0]["scaled"] == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_losses_are_those_of_the_base_told_the_prompt_and_of_the_result_told_the_condition_too(world, finished):
    folder, found = finished
    model = dt.load_fine_tuned(folder).model
    for data, task in (("target", world.held_out["test"]), ("source", world.source)):
        asked = ask("segmentation", task, 4, CaptionAs("square") if data == "target" else caption_pictures)
        text, null = {"text": world.base.denoiser.embed(asked.prompts)}, torch.zeros(4, dtype=torch.int64)
        before = losses_by_tenth(world.base, asked.images, null, each=2, conditions=text)
        after = losses_by_tenth(model, asked.images, null, each=2, conditions=text | {"control": asked.conditions})
        rows = [row for row in found.losses if row["data"] == data]
        assert [row["before"] for row in rows] == pytest.approx(before.tolist(), rel=1e-5)
        assert [row["after"] for row in rows] == pytest.approx(after.tolist(), rel=1e-5)


@pytest.mark.slow
def test_every_row_says_which_run_it_is_of(finished):
    _, (agreement, scores, losses, _) = finished
    for row in [*agreement, *scores, *losses]:
        assert CELL.identity.items() <= row.items()
    (score,) = scores
    assert score["step"] == 6 and all(math.isfinite(score[name]) for name in ("fid", "kid", "precision", "recall", "caption_agreement"))


@pytest.mark.slow
def test_an_interrupted_run_goes_on_at_its_last_check_to_the_same_rows(world, finished, tmp_path, monkeypatch):
    run_control_cell(replace(CELL, steps=2), tmp_path / "run", world)  # as far as the first check
    checks = []
    monkeypatch.setattr(study, "grey", lambda images, grey=study.grey: checks.append(1) or grey(images))
    found = run_control_cell(CELL, tmp_path / "run", world)
    assert len(checks) == 2, "the first one stands in the checkpoint"
    assert found[:3] == finished[1][:3] and torch.equal(found.pictures, finished[1].pictures)


@pytest.mark.slow
def test_a_run_that_diverges_has_infinite_scores_and_ends_nothing(world, tmp_path):
    found = run_control_cell(replace(CELL, method="plain", learning_rate=1e12), tmp_path / "run", world)
    assert found.scores[0]["fid"] == math.inf and found.scores[0]["sudden_convergence"] is None
    assert {row["after"] for row in found.losses} == {math.inf} and found.agreement[0]["step"] == 0


@pytest.mark.slow
def test_a_run_that_diverges_before_its_first_checkpoint_still_leaves_its_rows(world, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "run_control_cell", lambda cell, folder: run_control_cell(cell, folder, world))
    study.run_cell(replace(CELL, method="plain", seed=1, learning_rate=1e12), tmp_path / "runs", tmp_path / "control.csv")
    assert pd.read_csv(tmp_path / "control.csv").fid.tolist() == [math.inf] and not list((tmp_path / "runs").glob("*.run"))


def test_no_picture_that_is_asked_for_is_in_the_reference(world):
    for split, other in (("test", "validation"), ("validation", "test")):
        scored = study._scored_set(replace(CELL, split=split), world)
        assert torch.equal(scored.images, ask("edge", world.held_out[other], 8).images)


def test_the_step_of_sudden_convergence_is_above_half_of_the_way_for_three_checks():
    def rows(*scaled: float, text: bool = False) -> list[dict]:
        return [{"step": str(20 * i) if text else 20 * i, "scaled": str(value) if text else value} for i, value in enumerate(scaled)]

    assert convergence_step(rows(0, 0.1, 0.6, 0.4, 0.51, 0.7, 0.9)) == 80
    assert convergence_step(rows(0, 0.1, 0.6, 0.4, 0.51, 0.7, 0.9, text=True)) == 80, "as a table's rows come"
    assert convergence_step(rows(0, 0.1, 0.6, 0.7)) is None and convergence_step(rows(0)) is None


def test_steps_are_saved_seed_by_seed_and_runs_that_never_converge_are_left_out():
    steps = {
        ("plain", "edge"): (200, 300),
        ("Diff-Tuning", "edge"): (150, 150),
        ("plain", "depth"): (100, 100),
        ("Diff-Tuning", "depth"): (80, None),
        ("plain", "normal"): (None, None),
        ("Diff-Tuning", "normal"): (None, 100),
    }
    rows = [
        {"method": method, "kind": kind, "seed": seed, "sudden_convergence": step}
        for (method, kind), both in steps.items()
        for seed, step in enumerate(both)
    ]
    saved = steps_saved(pd.DataFrame(rows), "Diff-Tuning")
    assert [round(saved[name].mean, 6) for name in ("edge", "depth", "mean")] == [(0.25 + 0.5) / 2, 0.2, (0.25 + 0.2) / 2]
    assert [saved[name].seeds for name in ("edge", "depth", "normal", "mean")] == [2, 1, 0, 1]


def test_nothing_is_saved_where_no_run_of_a_method_converges():
    rows = [
        {"method": method, "kind": "edge", "seed": 0, "sudden_convergence": step} for method, step in (("plain", None), ("Diff-Tuning", 80))
    ]
    assert {name: saved.seeds for name, saved in steps_saved(pd.DataFrame(rows), "Diff-Tuning").items()} == {"edge": 0, "mean": 0}
