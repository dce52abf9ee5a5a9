"""Lesson 06: places on the plane as by hand, fronts against brute force, words that follow the tables, exercises against the library."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch

from difftuning.diffusion.regularizers import l2_sp
from difftuning.lessons.exercises import grade
from difftuning.lessons.parts import RUNS, STEPS
from difftuning.lessons.tuning import answers, figures, plane
from difftuning.lessons.tuning.live import live_places
from difftuning.lessons.tuning.plane import LOSS, METHODS, SAMPLES, Place, Study, View
from difftuning.models.loading import load_pretrained
from difftuning.studies.gains import Estimate, mean_gain, mean_loss_gain, read_table
from difftuning.studies.grid import studies
from difftuning.studies.tables import write_rows
from difftuning.support.world import world_version
from difftuning.training.regularizers import L2SP

NOTEBOOK = Path(__file__).resolve().parents[3] / "notebooks" / "06_fine_tuning.ipynb"
# Loss on old pictures, loss on new ones (after / before) and Frechet distance after 800 steps; of all others (2, 1, 4).
KNOWN = {"Diff-Tuning": (1.5, 0.8, 2.0), "EWC": (1.2, 0.9, 3.0), "distillation": (1.6, 0.8, 2.9), "early stopping": (1.7, 0.95, 4.5)}
SOON, LATE = 400, 1600  # steps before and after


def _run(task: str, pictures: int, method: str, seed: int, step: int) -> dict:
    return {
        "task": task, "method": method, "seed": seed, "learning_rate": 0.001, "training_pictures": pictures, "world": world_version(),
        "samples": 500, "step": step,
    }  # fmt: skip


def _rows(methods: dict[str, tuple], step: int, seeds: int = 1, factor: float = 1.0) -> tuple[list[dict], list[dict]]:
    """Score and loss rows of these methods on both sets; seeds differ by e^seed in the losses, and `factor` is on everything new."""
    scores, losses = [], []
    for task, pictures in (*RUNS.items(), ("footwear", 200)):
        wrong = 1 if pictures == RUNS[task] else 50
        for method, (old, new, fid) in methods.items():
            for seed in range(seeds):
                run = _run(task, pictures, method, seed, step)
                for guidance, split, times in (("1", "test", 2), ("1.5", "test", 1), ("1.5", "validation", 60), ("domain 1.5", "test", 60)):
                    scores.append(run | {"guidance": guidance, "split": split, "fid": fid * times * factor * wrong})
                for data, ratio in (("source", old), ("target", new * factor), ("validation", 70)):
                    losses += [run | {"data": data, "tenth": n, "before": 2.0, "after": 2 * ratio * math.exp(seed) * wrong * (1 + (n > 7))}
                               for n in range(1, 11)]  # fmt: skip
    return scores, losses


def _write(folder: Path, name: str, *tables: tuple[list[dict], list[dict]]) -> None:
    for suffix, rows in zip(("", "_losses"), zip(*tables)):
        write_rows(folder / "results" / f"{name}{suffix}.csv", sum(rows, []))


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """Tables whose numbers are those of `KNOWN`."""
    everyone = dict.fromkeys(METHODS, (2.0, 1.0, 4.0)) | KNOWN
    main = {method: everyone[method] for method in ("plain", "Diff-Tuning")}
    _write(tmp_path, "baselines", _rows(everyone, 800), _rows(everyone, SOON, factor=1.25))
    _write(tmp_path, "pilot", _rows(main, 800, factor=9), _rows(main, LATE, factor=0.5))
    _write(tmp_path, "parts", _rows(everyone, STEPS, factor=3))
    write_rows(tmp_path / "results" / "floors.csv", [
        {"world": world_version(), "task": task, "training_pictures": 2000, "pictures": "training pictures", "fid": 0.1} for task in RUNS
    ])  # fmt: skip
    monkeypatch.setattr("difftuning.studies.gains.data_folder", lambda: tmp_path)
    return tmp_path


@pytest.fixture
def study(tables) -> Study:
    return plane.read_study()


# Places --------------------------------------------------------------------------------------


def test_the_lesson_speaks_of_the_methods_of_its_study():
    assert {cell.method for cell in studies()["baselines"]} == set(METHODS)
    assert {(cell.task, cell.training_pictures) for cell in studies()["baselines"]} == set(RUNS.items())
    assert plane.STEPS in {step for cell in studies()["baselines"] for step in cell.steps}


@pytest.mark.parametrize("task", RUNS)
def test_a_method_stands_where_its_numbers_say(study, task):
    """Losses of the last three tenths are twice those of the others."""
    for method, (old, new, fid) in KNOWN.items():
        assert plane.place(study.end, View(task), method).point == pytest.approx((old * 2**0.3, fid))
        assert plane.place(study.end, View(task, "samples at guidance 1", "data end"), method).point == pytest.approx((old, 2 * fid))
        assert plane.place(study.end, View(task, LOSS, "noise end"), method).point == pytest.approx((2 * old, 2 * new))


def test_other_step_counts_come_from_the_pilot_only_where_the_study_has_none(study):
    walk = plane.path(study, View("digits"))
    assert {step: where.point[1] for step, where in walk.items()} == pytest.approx({SOON: 5, 800: 4, LATE: 2})
    assert list(plane.path(study, View("digits"), "EWC")) == [SOON, 800]


def test_the_pilot_s_runs_at_another_rate_or_seed_are_left_out(tables):
    late = _rows({"plain": (2.0, 1.0, 4.0)}, LATE)
    for change in ({"learning_rate": 0.002}, {"seed": 7}):
        _write(tables, "pilot", tuple([row | change for row in rows] for rows in late))
        assert LATE not in plane.path(plane.read_study(), View("digits"))


def test_the_terms_are_the_pilots_after_the_last_steps_and_in_the_seeds_that_all_of_them_have(tables):
    terms = dict(zip(plane.TERMS, [(2, 1, 4), (2, 1, 3), (1.5, 1, 4), (1.5, 1, 2)]))
    main = dict.fromkeys(("plain", "Diff-Tuning"), (8, 8, 8))  # further seeds, and a later step, that the others lack
    others = tuple([row for row in rows if row["seed"]] for rows in _rows(main, LATE, seeds=3))
    _write(tables, "pilot", _rows(terms, LATE), others, _rows(main, 3200), _rows(terms, 800, factor=5))
    parts, steps = plane.read_terms()
    assert steps == LATE and {m: plane.place(parts, View("footwear"), m).point[1] for m in terms} == pytest.approx(
        {method: fid for method, (_, _, fid) in terms.items()}
    )
    assert plane.place(parts, View("footwear"), "plain").missed.seeds == 1


def test_the_mean_over_sets_is_of_each_term_beside_plain(tables):
    terms = dict(zip(plane.TERMS, [(2, 1, 4), (2, 1.1, 3), (1.5, 1, 5), (1, 0.9, 2)]))
    _write(tables, "pilot", _rows(terms, LATE))
    head, _, *rows = answers.terms_in_numbers().splitlines()
    assert "mean over 3 sets, 1,600 steps, one run (seed)" in head
    assert rows == [
        "| reconsolidation only | 25 % | 25 % | -10 % | 0 % |",
        "| retention only | -25 % | -25 % | 0 % | 25 % |",
        "| Diff-Tuning | 50 % | 50 % | 10 % | 50 % |",
    ]


def test_what_is_more_than_twice_as_high_is_said_in_times(tables):
    everyone = dict.fromkeys(METHODS, (2.0, 1.0, 4.0)) | {"EWC": (2.0, 1.0, 10.0), "P2": (2.0, 1.0, 7.9)}
    _write(tables, "baselines", _rows(everyone, STEPS))
    rows = {row.split(" | ")[0].strip("| "): row.split(" | ")[1:] for row in answers.methods_in_numbers().splitlines()}
    assert rows["EWC"][:2] == ["2.5 times as high"] * 2 and rows["P2"][0] == "-98 %" and rows["L2-SP"][0] == "0 %"
    assert list(rows)[2:] == list(METHODS[1:])


def test_seeds_give_a_place_its_interval(tables):
    _write(tables, "baselines", _rows({"plain": (2.0, 1.0, 4.0), "EWC": KNOWN["EWC"]}, 800, seeds=3))
    found = plane.place(plane.read_study().end, View("digits", LOSS, "data end"), "EWC")
    assert found.point == pytest.approx((1.2 * math.e, 0.9 * math.e)) and found.forgotten.half_width == pytest.approx(2.484, rel=1e-3)


def test_a_run_that_diverged_has_no_place(tables):
    _write(tables, "baselines", _rows(dict.fromkeys(METHODS, (2.0, 1.0, 4.0)) | {"P2": (2.0, 1.0, math.inf)}, 800))
    assert set(METHODS) - set(plane.places(plane.read_study().end, View("digits"))) == {"P2"}


# Fronts --------------------------------------------------------------------------------------


def _place(old: float, new: float) -> Place:
    return Place(*(Estimate(math.log(value), math.nan, 1) for value in (old, new)))


def test_without_margins_the_front_is_pareto_s():
    points = np.random.default_rng(0).uniform(1, 2, (40, 2))
    found = {str(n): _place(*point) for n, point in enumerate(points)}
    expected = [str(n) for n, own in enumerate(points) if not ((points <= own).all(1) & (points < own).any(1)).any()]
    assert plane.front(found, (0, 0)) == expected


def test_what_is_within_the_margin_is_no_difference():
    ours, better, worse = _place(1.5, 2), _place(1.45, 2.01), _place(1.45, 2.3)
    assert plane.beats(better, ours, (0.02, 0.05)) and not plane.beats(worse, ours, (0.02, 0.05))
    assert not plane.beats(better, ours, (0.05, 0.05)) and not plane.beats(ours, ours, (0, 0))


def test_a_front_is_never_empty():
    for seed in range(50):
        points = np.random.default_rng(seed).uniform(1, 1.3, (12, 2))
        assert plane.front({str(n): _place(*point) for n, point in enumerate(points)}, (0.05, 0.1))


# Words ---------------------------------------------------------------------------------------


def test_answers_follow_the_tables(study):
    assert answers.stop_in_words(study, "digits") == "at the same step" and answers.holds_best(study, "digits") == "EWC"
    assert answers.stands_in_words(study, "digits") == "on the front"
    answer = answers.answer_in_words(study)
    assert answer.startswith("**On the front: EWC and Diff-Tuning with 2,000 pictures of footwear; EWC and Diff-Tuning with 200 pictures")
    assert "On it in all 4 settings (2 sets, guidance 1 and 1.5): EWC and Diff-Tuning." in answer and "beaten by none" in answer
    assert answers.beside_plain(study.end, "digits", ["plain", "early stopping", "EWC", "P2"]).splitlines()[2:] == [
        "- *early stopping*: worse samples, more of the old kept",
        "- *EWC*: better samples, more of the old kept",
        "- *P2*: samples not clearly different, about as much of the old kept",
    ]
    first, second, third = answers.guide_in_words(study).splitlines()
    assert (
        "footwear: Diff-Tuning; 200 pictures of digits: Diff-Tuning." in first
        and "EWC, which keeps most, or Diff-Tuning, which draws best" in second
    )
    assert third == "- **Only the old pictures count.** 2,000 pictures of footwear: EWC; 200 pictures of digits: EWC."


def test_other_tables_give_other_answers(tables):
    """EWC is best in everything, prior preservation next; the loss is lowest at the start and the samples are best at the end."""
    everyone = dict.fromkeys(METHODS, (2.0, 1.0, 4.0)) | {"EWC": (1.1, 0.5, 1.0), "prior preservation": (1.3, 0.6, 2.0)}
    early = {method: (old, new / 4, 3 * fid) for method, (old, new, fid) in everyone.items()}
    _write(tables, "baselines", _rows(everyone, 800), _rows(early, SOON))
    study = plane.read_study()
    assert answers.stop_in_words(study, "digits") == "later"
    assert answers.stands_in_words(study, "digits") == "beaten by a method of another kind"
    answer = answers.answer_in_words(study)
    assert (
        "**On the front: EWC with" in answer
        and "By the samples Diff-Tuning is beaten by EWC (in 4 of 4 settings) and prior preservation (in 4 of 4 settings)." in answer
    )
    assert "2,000 pictures of footwear: EWC; 200 pictures of digits: EWC." in answers.guide_in_words(study).splitlines()[1]
    assert answers.convergence_in_words(study).splitlines()[0] == (
        "- *footwear (2,000)*: Diff-Tuning's samples are better than plain's after 1,600 steps; not clearly different from plain's after 400 and 800 steps. "
        "The loss is lowest after 400 steps, under both."
    )


def test_what_chance_may_have_put_behind_the_best_is_named_beside_it(tables):
    """Three seeds in which P2's distance is 0.9, 1.6 and 1.5 times the best: worse on average, and its interval holds 0."""
    everyone = dict.fromkeys(METHODS, (2.0, 1.0, 4.0)) | KNOWN
    _write(tables, "baselines", _rows(everyone, 800, seeds=3))
    study = plane.read_study()
    scores, ours = study.end.scores, study.end.scores.method == "P2"
    scores = scores.assign(fid=scores.fid.where(~ours, scores.seed.map({0: 0.9, 1: 1.6, 2: 1.5}) * 2.0))
    found = answers.guide_in_words(Study({**study.at, STEPS: study.end._replace(scores=scores)})).splitlines()[0]
    assert "200 pictures of digits: Diff-Tuning; not clearly behind it P2." in found
    assert "the 95 % interval of the difference does not hold 0" in answers.margins_in_words(study.end)


def test_the_readme_says_what_the_shipped_tables_say():
    answer = answers.answer_in_words(plane.read_study())
    assert "guidance 1 and 1.5): distillation and Diff-Tuning" in answer and "EWC (on 2 of 2 sets), distillation (on 2 of 2 sets)" in answer
    readme = " ".join((NOTEBOOK.parents[1] / "README.md").read_text().split())
    table, losses = read_table("baselines"), read_table("baselines_losses")
    samples = {method: [mean_gain(table, method, guidance, STEPS) for guidance in ("1.5", "1")] for method in METHODS[1:]}
    lost = {method: [mean_loss_gain(losses, method, data, STEPS) for data in ("target", "source")] for method in METHODS[1:]}
    assert {gain.seeds for gains in (*samples.values(), *lost.values()) for gain in gains} == {3}
    everything = [method for method in METHODS[1:] if min(gain.mean for gain in samples[method] + lost[method]) > 0]
    assert everything == ["hard threshold 0.25", "Diff-Tuning"]
    assert all(gain.ends[0] < 0 for method in everything for gain in samples[method])  # may be chance
    clearly = [method for method in METHODS[1:] if min(gain.ends[0] for gain in samples[method]) > -0.005]
    assert clearly == ["P2", "Min-SNR"] and all(lost[method][1].ends[1] < 0 for method in clearly)
    assert max(lost, key=lambda method: lost[method][1].mean) == "distillation" and samples["distillation"][1].ends[1] < 0
    kept, ours = (f"{100 * lost[method][1].lower:.0f} %" for method in ("distillation", "Diff-Tuning"))
    assert f"It lowers the loss on old pictures by {kept}, Diff-Tuning by {ours}" in readme
    worse = f"{-100 * samples['distillation'][1].lower:.0f} %"
    assert f"but without guidance its samples are clearly worse than plain fine-tuning's, by {worse}" in readme
    assert (
        "no other remedy beats the two" in readme
        and "P2 and Min-SNR, which also train less near the data, draw clearly better than plain fine-tuning, and forget more" in readme
    )
    pilot, losses = read_table("pilot"), read_table("pilot_losses")
    rising, bank = (
        [mean_gain(pilot, method, guidance, 1600) for guidance in ("1.5", "1")] for method in ("reconsolidation only", "retention only")
    )
    assert {gain.seeds for gain in (*rising, *bank)} == {3}
    guided, free = (f"{100 * gain.lower:.0f} %" for gain in rising)
    assert (
        f"without guidance by {free} in Frechet distance on average over the five sets, under guidance by {guided}, which may be chance"
        in readme
    )
    assert rising[1].ends[0] > 0 > rising[0].ends[0]
    assert mean_loss_gain(losses, "reconsolidation only", "source", 1600).mean < 0.02 and "keep nothing more of the old" in readme
    assert bank[1].lower < -0.1 and abs(bank[0].lower) < 0.05
    assert "The bank by itself tends to make unguided samples worse, and does little to guided ones" in readme


def test_what_diverged_is_in_the_readme():
    ends = read_table("pilot").query("step == 1600 and split == 'test' and guidance == '1.5'")
    of_method = {method: (int(np.isinf(rows.fid).sum()), len(rows)) for method, rows in ends.groupby("method")}
    assert {method for method, (diverged, _) in of_method.items() if diverged} == {"Diff-Tuning, own labels"}
    assert of_method["Diff-Tuning, own labels"] == (1, 15)
    readme = " ".join((NOTEBOOK.parents[1] / "README.md").read_text().split())
    assert "one of fifteen with the bank's own labels diverged" in readme
    doubled = read_table("learning_rates_losses").query("learning_rate == 0.002")
    assert set(doubled[np.isinf(doubled.after)].method) == {"Diff-Tuning", "P2"} and doubled.method.nunique() == 8
    assert "of eight methods with the learning rate doubled from 1e-3 to 2e-3 Diff-Tuning and P2 failed" in readme


def test_where_another_replay_wins_it_is_said(tables):
    _write(tables, "baselines", _rows(dict.fromkeys(METHODS, (2.0, 1.0, 4.0)) | {"hard threshold 0.5": (1.1, 0.5, 1.0)}, 800))
    assert answers.stands_in_words(plane.read_study(), "footwear") == "beaten by another way of replay"


# Figures -------------------------------------------------------------------------------------


def test_points_are_drawn_where_the_numbers_say_and_filled_on_the_front(study):
    figure = figures.plane_figure(study, View("digits", LOSS, "data end"), live={"mine": _place(1.3, 0.7)})
    (axis,) = figure.axes
    drawn = [(tuple(np.ravel(line.get_xydata())), line.get_markerfacecolor()) for line in axis.lines if len(line.get_xydata()) == 1]
    assert any(point == pytest.approx((1.2, 0.9)) for point, _ in drawn) and any(point == pytest.approx((1.3, 0.7)) for point, _ in drawn)
    (axis,) = figures.plane_figure(study, View("digits", LOSS, "data end")).axes
    face = {tuple(np.round(line.get_xydata()[0], 6)): line.get_markerfacecolor() for line in axis.lines if line.get_marker() in "oDs^P"}
    assert face[1.2, 0.9] != "white" and face[1.5, 0.8] != "white" and face[1.6, 0.8] == "white"
    assert "Not beaten: EWC, Diff-Tuning." in figures.plane_figure(study, View("digits")).get_label()


def test_stages_of_one_plane_share_their_limits(study):
    few, all_ = (figures.plane_figure(study, View("footwear"), methods).axes[0] for methods in (["plain", "EWC"], METHODS))
    assert few.get_xlim() == all_.get_xlim() and few.get_ylim() == all_.get_ylim()


def test_every_figure_draws_what_there_is(tables, study, monkeypatch):
    _write(tables, "pilot", _rows({method: (2.0 + place, 1.0, 4.0 + place) for place, method in enumerate(plane.TERMS)}, LATE))
    assert "after 1600" not in figures.stopping_figure(Study({800: study.end}), "digits").get_label()
    assert figures.convergence_figure(study)._repr_png_() and figures.terms_figure(*plane.read_terms())._repr_png_()
    monkeypatch.setattr(figures, "precompute", lambda draw, **axes: (draw, axes))
    draw, axes = figures.plane_explorer(study)
    assert axes["training_set"] == ["digits (200)", "footwear (2,000)"] and axes["new_pictures_by"][0] == SAMPLES
    assert "data end" in draw("footwear (2,000)", LOSS, "data end").axes[0].get_title()


# The live run --------------------------------------------------------------------------------


def test_the_untouched_model_stands_where_nothing_is_forgotten_and_nothing_learned():
    pretrained = load_pretrained("tiny")
    untouched = SimpleNamespace(model=pretrained, rows=torch.full((10,), pretrained.null_label))
    found = live_places(pretrained, {"untouched": untouched}, View("digits", LOSS), pictures=2)
    assert found["untouched"].point == (1, 1)
    with pytest.raises(ValueError, match="loss on new pictures"):
        live_places(pretrained, {}, View("digits", SAMPLES))


def _cell(name: str) -> str:
    return next(cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.id == name)


def test_the_lesson_s_penalty_is_the_library_s():
    space: dict = {"lesson": SimpleNamespace(Penalty=lambda name, value, weight: (name, value, weight))}
    exec(_cell("penalty"), space)
    model = torch.nn.Linear(3, 2)
    ((name, value, weight),) = space["hold_on"](SimpleNamespace(denoiser=model))
    start = [weight.detach().clone() for weight in model.parameters()]
    with torch.no_grad():
        for each in model.parameters():
            each.add_(torch.randn_like(each))
    assert torch.allclose(value(model, None), l2_sp(model.parameters(), start)) and (name, weight) == ("l2_sp", L2SP().weight)


# Exercises -----------------------------------------------------------------------------------


def _distillation(model, frozen, x_t, t, labels, *, channels=None, mean=True, constant=True, graph=True):
    with torch.set_grad_enabled(not constant):
        wanted = frozen(x_t, t, labels)[:, :channels]
    with torch.set_grad_enabled(graph):
        errors = (model(x_t, t, labels)[:, :channels] - wanted).square()
    return errors.mean() if mean else errors.sum()


def test_the_distillation_loss_is_recognised():
    right = grade("distillation loss", lambda *given: _distillation(*given, channels=3))
    assert right.passed and right.message == "exact"


@pytest.mark.parametrize(
    "change, hint",
    [
        ({"channels": None}, "first half of the output is the noise"),
        ({"mean": False}, "not the sum"),
        ({"constant": False}, "gradient flows into the frozen model"),
        ({"graph": False}, "no gradient reaches the model"),
    ],
)
def test_a_slip_in_the_distillation_loss_is_named(change, hint):
    found = grade("distillation loss", lambda *given: _distillation(*given, **({"channels": 3} | change)))
    assert not found.passed and hint in found.message


def test_the_front_is_recognised_and_slips_are_named():
    def my_front(points):
        return [n for n, (x, y) in enumerate(points) if not any(a <= x and b <= y and (a, b) != (x, y) for a, b in points)]

    assert grade("front", my_front).passed
    best_of_one = grade("front", lambda points: [min(range(len(points)), key=points.__getitem__)])
    assert not best_of_one.passed and "leave out" in best_of_one.message
    everyone = grade("front", lambda points: range(len(points)))
    assert not everyone.passed and "beats" in everyone.message
    from_one = grade("front", lambda points: [1 + n for n in my_front(points)])
    assert not from_one.passed
    assert grade("front", lambda points: None).message.startswith("not written yet")
