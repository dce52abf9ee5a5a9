"""Lesson 10: costs against counts by hand and published numbers, words against numbers that are plain, the lesson with another model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from difftuning.data.tasks import load_source
from difftuning.lessons.adapters.variants import FULL, with_adapter
from difftuning.lessons.exercises import grade
from difftuning.lessons.memory import dit_xl, training_memory
from difftuning.lessons.yours import answers, costs, figures, pictures
from difftuning.models.dit import build_dit
from difftuning.models.loading import load_pretrained
from difftuning.sampling import sample
from difftuning.studies.gains import read_table
from small import SOURCE_NAMES, small_pretrained, small_task

pd = pytest.importorskip("pandas")
NOTEBOOK = Path(__file__).resolve().parents[3] / "notebooks" / "10_your_own_pictures.ipynb"


# Costs --------------------------------------------------------------------------------------


def test_the_operations_of_dit_xl_are_the_published_ones():
    """Peebles and Xie (ICCV 2023), table 4: 118.64 billion at 256 pixels, 524.60 at 512, a multiplication and its addition counted as one."""
    for pixels, billions in ((256, 118.64), (512, 524.60)):
        assert costs.forward_operations(dit_xl(pixels)) / 2e9 == pytest.approx(billions, rel=2e-3)


def test_operations_are_counted_as_by_hand():
    """Twice the weights of each layer for every time that it is applied, and attention's two products."""
    width, side = 32, 8
    model = build_dit(width=width, num_heads=2, num_layers=3, latent_shape=(4, side, side), num_labels=5)
    counted = []

    def note(layer: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        applied = output.numel() // (layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)
        counted.append(2 * layer.weight.numel() * applied)

    hooks = [layer.register_forward_hook(note) for layer in model.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    zero = torch.zeros(1, dtype=torch.int64)
    model(torch.zeros(1, 4, side, side), zero, zero)
    for hook in hooks:
        hook.remove()
    tokens = (side // 2) ** 2
    attention = 3 * 2 * (2 * tokens * tokens * width)
    assert costs.forward_operations(model) == sum(counted) + attention


def test_a_backward_pass_takes_twice_the_operations_of_a_forward_pass():
    model = build_dit(width=32, num_heads=2, num_layers=2, latent_shape=(4, 8, 8), num_labels=5)
    zeros = torch.zeros(3, dtype=torch.int64)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(torch.zeros(3, 4, 8, 8), zeros, zeros).sum().backward()
    assert costs.training_operations(model, 3) == pytest.approx(
        counter.get_total_flops(), rel=0.05
    )  # what needs no gradient of its inputs is cheaper


def test_only_activations_grow_with_the_pictures_at_a_time():
    for name in (FULL, costs.LORA):
        with torch.device("meta"):
            model = build_dit(width=64, num_heads=2, num_layers=2, latent_shape=(4, 16, 16), num_labels=5)
        model = with_adapter(model, name)
        one, many = training_memory(model, 1), training_memory(model, 16)
        found = costs.at_a_time(one, 16)
        assert found[:4] == many[:4] == one[:4]
        assert found.activations == pytest.approx(many.activations, rel=0.01)


@pytest.mark.parametrize(("gigabytes", "card"), [(1, 16), (14.5, 16), (14.6, 24), (21.9, 40), (72.7, 80), (72.8, None)])
def test_the_smallest_card_has_room_to_spare(gigabytes, card):
    memory = costs.paper_memory()._replace(weights=0, gradients=0, optimizer=0, average=0, activations=int(gigabytes * costs.GB))
    assert costs.smallest_card(memory) == card


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "1 second"), (80, "80 seconds"), (90, "1.5 minutes"), (58 * 60, "58 minutes"), (3 * 3600, "3 hours"), (30 * 3600, "30 hours"),
     (40 * 3600, "1.5 days"), (9 * 86_400, "9 days"), (80 * 86_400, "2.5 months"), (800 * 86_400, "2 years")],
)  # fmt: skip
def test_durations_are_said_in_the_unit_that_one_would_take(seconds, words):
    assert costs.duration(seconds) == words


def test_a_span_names_its_unit_once_if_it_is_one():
    assert costs.span(18 * 60, 46 * 60) == "18 to 46 minutes"
    assert costs.span(58 * 60, 7200) == "58 minutes to 2 hours"


@pytest.mark.parametrize(("days", "word"), [(0.01, "minutes"), (0.1, "hours"), (3, "days"), (20, "weeks"), (300, "months or more")])
def test_how_long_is_one_of_the_answers_and_in_the_unit_of_the_duration(days, word):
    assert costs.long(86_400 * days) == word and word in costs.LONG
    assert costs.duration(86_400 * days).split()[1] in word


def test_the_published_time_on_an_h100_lies_within_its_bar():
    """The authors' log: 30,000 steps of 32 pictures in 1.56 hours."""
    least, most = costs.times(costs.paper_operations(30_000))["H100"]
    assert least < 1.56 * 3600 < most


def test_the_untouched_model_and_the_autoencoder_stay_in_memory():
    """`fine_tune` trains a copy; an adapter shares the weights of the model that it is put on."""
    full, lora = costs.paper_memory(), costs.paper_memory(costs.LORA)
    assert full.weights == 2 * full.gradients + costs.AUTOENCODER
    assert 0 < lora.weights - costs.AUTOENCODER - full.gradients < 0.01 * full.gradients


# Pictures -----------------------------------------------------------------------------------


def _pictures(task) -> list[tuple]:
    return [tuple(picture.flatten()[:5].tolist()) for picture in task.images]


def test_of_each_class_one_picture_in_five_is_held_out_and_never_learned_from():
    task = small_task(size=23)  # three classes of 8, 8 and 7
    learn, held_out = pictures.split(task)
    assert len(learn) == 20 and held_out.labels.tolist() == [0, 1, 2] and held_out.class_names == task.class_names
    assert sorted(_pictures(learn) + _pictures(held_out)) == sorted(_pictures(task))


def test_a_class_of_few_pictures_is_learned_whole():
    learn, held_out = pictures.split(small_task(size=13, classes=3))  # 5, 4 and 4
    assert held_out.labels.tolist() == [0] and torch.bincount(learn.labels).tolist() == [4, 4, 4]
    with pytest.raises(ValueError, match="no class of shapes has 5 pictures"):
        pictures.split(small_task(size=12))


def test_no_more_are_held_out_than_can_be_measured_at_once():
    learn, held_out = pictures.split(small_task(size=1200, classes=4))
    assert len(held_out) == pictures.MOST and len(learn) == 1200 - pictures.MOST
    assert set(torch.bincount(held_out.labels).tolist()) == {pictures.MOST // 4}


def test_old_pictures_of_the_tiny_model_are_real_and_others_draw_theirs():
    source = load_source("heldout")
    found, labels = pictures.old_pictures(load_pretrained("tiny"), 5)
    assert labels.tolist() == source.labels[torch.linspace(0, len(source) - 1, 5).long()].tolist() and len(found) == 5
    drawn, labels = pictures.old_pictures(small_pretrained(), 3)
    small = small_pretrained()
    spread = torch.tensor([0, (len(SOURCE_NAMES) - 1) // 2, len(SOURCE_NAMES) - 1])
    assert torch.equal(drawn, sample(small, spread, guidance=1.5)) and labels.tolist() == [small.null_label] * 3


# Words and figures --------------------------------------------------------------------------


def _curves(**courses: dict[str, list[float]]) -> pd.DataFrame:
    """Of each method, by data, a ratio for steps 10, 20, ...; tenths differ by factors that cancel in the geometric mean."""
    return pd.DataFrame([
        {"method": method.replace("_", "-"), "data": data, "step": 10 * (n + 1), "tenth": tenth, "ratio": ratio * (2 if tenth % 2 else 0.5)}
        for method, by_data in courses.items() for data, ratios in by_data.items() for n, ratio in enumerate(ratios) for tenth in range(1, 11)
    ])  # fmt: skip


def test_a_course_is_the_geometric_mean_over_the_chain():
    found = answers.course(_curves(plain={"yours": [0.9, 0.7], "old": [1.1, 1.3]}), "plain")
    assert found.index.tolist() == [10, 20] and found.tolist() == pytest.approx([0.9, 0.7])


@pytest.mark.parametrize(("ratios", "falls"), [([0.9, 0.8], 0), ([0.9, 0.89], 1), ([0.9, 0.7, 0.75], 1), ([0.7, 0.9, 0.69], 1)])
def test_a_loss_falls_if_the_last_measurement_is_clearly_the_lowest(ratios, falls):
    assert answers.does_it_fall(_curves(plain={"yours": ratios}), "plain") == answers.FALLS[falls]


def test_methods_are_compared_after_the_last_step():
    curves = _curves(plain={"yours": [0.8, 0.9], "old": [1.5, 2.0]}, Diff_Tuning={"yours": [0.9, 0.81], "old": [1.4, 2.01]})
    words = answers.stopping_in_words(curves)
    assert "After 20 steps of Diff-Tuning" in words
    assert "the loss on your held-out pictures is 10 % lower and the loss on old pictures is about the same" in words
    assert "plain fine-tuning gets better until step 10, Diff-Tuning to the last step" in words


def test_the_best_step_is_the_first_that_is_as_good_as_the_lowest():
    """So that what has stopped falling was at its best before."""
    assert answers.best_step(pd.Series({10: 0.9, 20: 0.7, 40: 0.69, 80: 0.8})) == 20
    flat = _curves(plain={"yours": [0.9, 0.89], "old": [1, 1]}, Diff_Tuning={"yours": [0.9, 0.8], "old": [1, 1]})
    assert answers.does_it_fall(flat, "plain") == answers.FALLS[
        1
    ] and "plain fine-tuning gets better until step 10" in answers.stopping_in_words(flat)


def test_long_runs_are_averaged_over_seeds_as_ratios():
    one, other = (
        _curves(plain={"yours": [0.8 * f, 0.4 * f, 0.6 * f]}, Diff_Tuning={"yours": [0.8 * f, 0.5 * f, 0.502 * f]}) for f in (0.5, 2)
    )
    table = pd.concat([one.assign(seed=0), other.assign(seed=1)])
    assert answers.course(table, "plain").tolist() == pytest.approx([0.8, 0.4, 0.6])
    assert answers.long_in_words(table) == (
        "**Under plain fine-tuning the loss on held-out pictures falls until step 20 and is 50 % above its lowest by step 30; "
        "under Diff-Tuning the loss on held-out pictures falls until step 20 and stays there. At its lowest, Diff-Tuning's is 25 % higher.**"
    )


def test_the_shipped_long_runs_are_of_three_seeds_and_show_what_the_lesson_says():
    table = read_table("own_pictures")
    assert (
        set(table.seed) == {0, 1, 2}
        and set(table.method) == {"plain", "Diff-Tuning"}
        and not table.duplicated(["method", "seed", "step", "data", "tenth"]).any()
    )
    learned, held, old = (
        {method: answers.course(table, method, data).iloc[-1] for method in set(table.method)} for data in ("learned", "yours", "old")
    )
    assert (
        all(learned[method] < held[method] for method in learned)
        and old["Diff-Tuning"] < old["plain"]
        and held["Diff-Tuning"] < held["plain"]
    )


def test_the_tables_are_asked_for_the_nearest_number_of_pictures():
    rows = [
        {"task": task, "pictures": count, "steps": 800, "measure": measure, "seed": 0, "gain": gain}
        for task in ("footwear", "digits")
        for count in (50, 200, 2000)
        for measure, gain in ((answers.NEW, count / 1000), (answers.OLD, 0.001), (answers.GUIDED, -0.2))
    ]
    words = answers.tables_in_words(130, pd.DataFrame(rows))
    assert words.count("200 pictures") == 2 and words.count("loss on new pictures 18 % lower") == 2  # 1 - e^-0.2
    assert words.count("loss on old pictures about the same") == 2 and words.count("samples worse") == 2


def test_figures_say_what_they_show():
    curves = _curves(plain={"yours": [0.8, 0.9], "old": [1.5, 2.0]}, Diff_Tuning={"yours": [0.9, 0.81], "old": [1.4, 1.6]})
    figure = figures.courses_figure(curves)
    assert "your held-out pictures, plain: 0.80 after 10, 0.90 after 20" in figure.get_label()
    assert figure.axes[1].lines[0].get_ydata().tolist() == pytest.approx([1.5, 2.0])
    assert figures.tenths_explorer(curves).axes == {"steps": [10, 20]}
    speed = costs.paper_operations() / 86_400  # a day
    figure = figures.time_figure(speed)
    assert (
        "this machine about 24 hours" in figure.get_label()
        and f"A100 {costs.span(*costs.times(costs.paper_operations())['A100'])}" in figure.get_label()
    )
    bars = figures.memory_figure(costs.LORA, 512)
    sizes = [costs.at_a_time(costs.paper_memory(costs.LORA, 512), number).total / 1e9 for number in (1, 2)]
    assert f"1 at a time {sizes[0]:.0f}, 2 at a time {sizes[1]:.0f}" in bars.get_label()


def test_the_readme_says_what_the_long_runs_show():
    readme = " ".join((NOTEBOOK.parents[1] / "README.md").read_text(encoding="utf-8").split())
    table = read_table("own_pictures")
    plain, ours = (answers.course(table, method) for method in ("plain", "Diff-Tuning"))
    assert answers.best_step(plain) == 80 and plain[320] > 1.05 * plain.min() and ours[320] < 1.02 * ours.min()
    assert "plain fine-tuning stops getting better on held-out ones after 80 steps and is worse after 320" in readme
    assert f"Diff-Tuning's loss on them gets {100 * (1 - ours.min() / plain.min()):.0f} % lower and stays there" in readme
    rises = [answers.course(table, method, "old")[320] - 1 for method in ("Diff-Tuning", "plain")]
    assert rises[0] < 0.5 * rises[1] and "loses far less of the old" in readme


# Exercises and the notebook -----------------------------------------------------------------


def test_an_answer_that_forgets_the_bank_is_told_so():
    found = grade("steps", lambda pictures, times, batch, share: -(-pictures * times // batch))
    assert not found.passed and "some places of the batch are the bank's" in found.message


def test_an_answer_that_forgets_the_average_is_wrong():
    found = grade("memory", lambda weights, trained, activations, pictures: 4 * (weights + 3 * trained) + pictures * activations)
    assert not found.passed and "all weights, 1 at a time" in found.message


@pytest.mark.slow
def test_the_lesson_runs_with_a_model_that_is_not_the_tiny_one(tmp_path):
    """What a reader does with DiT-XL/2, with a DiT of next to no size: it draws its bank and the old pictures itself."""
    from tests.notebooks.runner import run

    small_pretrained(num_labels=1000, side=8).save(tmp_path / "model")
    run(NOTEBOOK, tmp_path / "out.ipynb", seconds=300, model_name=str(tmp_path / "model"), folder=str(tmp_path / "runs"))
    assert (tmp_path / "runs" / "bank").is_dir() and (tmp_path / "runs" / "my_model" / "model" / "model_index.json").is_file()
