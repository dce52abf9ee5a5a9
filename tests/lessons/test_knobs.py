"""A setting's values are compared with the default, told, and drawn, on tables whose numbers are plain."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from difftuning.lessons import knob_figures, knobs
from difftuning.lessons.parts import RUNS, Parts
from difftuning.studies.methods import SWEPT

pd = pytest.importorskip("pandas")
EFFECTS = {  # (distance, rise in the loss on old pictures) beside Diff-Tuning's 1 and 0.3
    "plain": (2, 0.6), "tau 0, official": (1, 0.3), "tau 0.5, official": (0.8, 0.3), "tau 1, paper": (1, 0.3), "tau 2, paper": (3, 0.3),
    "bank of 30": (1, 0.5), "bank share 0.1": (1, 0.3), "bank share 0.4": (1, 0.2),
}  # fmt: skip


def made_parts(effects, tasks=tuple(RUNS)):
    """One seed, the same under both guidances and at every tenth."""
    methods = {"Diff-Tuning": (1, 0.3)} | effects
    scores = [
        {"task": task, "method": method, "seed": 0, "guidance": guidance, "fid": pair[0]}
        for task in tasks for method, pair in methods.items() for guidance in ("1", "1.5")
    ]  # fmt: skip
    losses = [
        {"task": task, "data": "source", "method": method, "seed": 0, "tenth": tenth, "before": 1.0, "after": 1 + pair[1]}
        for task in tasks for method, pair in methods.items() for tenth in range(1, 11)
    ]  # fmt: skip
    return Parts(pd.DataFrame(scores), pd.DataFrame(losses))


def test_the_knobs_are_those_of_the_study():
    methods = {method for knob in knobs.KNOBS.values() for values in knob.lines.values() for method in values.values()}
    assert methods == {*SWEPT, "Diff-Tuning"}
    for knob in knobs.KNOBS.values():
        assert next(iter(knob.lines.values()))[knob.default] == "Diff-Tuning"


def test_values_that_were_run_have_a_row_and_others_none():
    rows = [line for line in knobs.knob_table(made_parts(EFFECTS), "tau", "bank size", "bank weight").splitlines() if line.startswith("|")]
    assert rows == [
        "| compared with Diff-Tuning, on footwear and digits | new samples | old pictures |",
        "|---|---|---|",
        "| tau 0 (official) | no clear difference | no clear difference |",
        "| tau 0.5 (official) | better | no clear difference |",
        "| tau 2 (paper) | worse | no clear difference |",
        "| bank size 30 | no clear difference | worse |",
    ]


@pytest.mark.parametrize(
    "knob, words",
    [
        (
            "tau",
            "The new samples get better with tau 0.5 (official), and the old pictures are kept about as well with each.",
        ),
        ("bank size", "No other bank size makes the new samples better; the old pictures are kept less well with 30."),
        ("bank share", "No other bank share makes the new samples better; the old pictures are kept better with 0.4."),
        ("bank weight", ""),
    ],
)
def test_a_knob_is_told_in_a_sentence(knob, words):
    assert knobs.knob_in_words(made_parts(EFFECTS), knob) == words


def test_sets_that_disagree_on_the_old_pictures_are_not_called_better_or_worse():
    one, other = made_parts({"bank of 30": (1, 0.1)}, ["footwear"]), made_parts({"bank of 30": (1, 0.6)}, ["digits"])
    both = Parts(pd.concat([one.scores, other.scores]), pd.concat([one.losses, other.losses]))
    assert knobs.knob_in_words(both, "bank size").endswith("better on one set and less well on the other with 30.")
    assert "| bank size 30 | no clear difference | mixed |" in knobs.knob_table(both, "bank size")


def test_the_figure_draws_the_values_that_were_run_and_all_knobs_share_their_axes():
    parts = made_parts(EFFECTS)
    tau, share = (knob_figures.knob_figure(parts, name) for name in ("tau", "bank share"))
    assert [axis.get_ylim() for axis in tau.axes] == [axis.get_ylim() for axis in share.axes]
    assert "footwear: 0 (official) 1.00, 0.5 (official) 0.80, 2 (paper) 3.00; default 1.00, plain 2.00" in tau.get_label()
    official = tau.axes[0].lines[0]
    assert official.get_xdata().tolist() == [0, 0.5, 1] and official.get_ydata() == pytest.approx([1, 0.8, 1])
    assert {text.get_text() for text in tau.axes[0].texts} == {"official", "paper", "plain"}
    assert len(knob_figures.knob_figure(made_parts(EFFECTS, ["digits"]), "tau").axes) == 2


def test_a_set_on_which_no_other_value_was_run_is_neither_drawn_nor_named():
    whole, part = made_parts(EFFECTS, ["digits"]), made_parts({"plain": (2, 0.6)}, ["footwear"])
    parts = Parts(*(pd.concat(tables) for tables in zip(whole[:2], part[:2])))
    assert knobs.sets_run(parts, "tau") == ["digits"] and knobs.sets_run(parts, "bank weight") == []
    assert knobs.knob_table(parts, "tau").startswith("| compared with Diff-Tuning, on digits |")
    assert [axis.get_title() for axis in knob_figures.knob_figure(parts, "tau").axes] == ["digits, 200 pictures", ""]


def test_a_set_without_the_default_is_left_out():
    whole, part = made_parts(EFFECTS, ["digits"]), made_parts(EFFECTS, ["footwear"])
    scores, losses = (table[table.method != "Diff-Tuning"] for table in (part.scores, part.losses))
    parts = Parts(pd.concat([whole.scores, scores]), pd.concat([whole.losses, losses]))
    assert list(knob_figures.knob_numbers(parts, "1.5")) == ["digits"]


def test_a_bar_is_the_interval_of_the_change_from_the_default_seed_by_seed():
    changes = (1.1, 1.3, 1.2)
    made = [made_parts(EFFECTS | {"tau 2, paper": (3.0 * change, 1.0)}, ["digits"]) for change in changes]
    scores = [one.scores.assign(seed=seed, fid=one.scores.fid * (1 + 3 * seed)) for seed, one in enumerate(made)]  # seeds differ far more
    losses = [one.losses.assign(seed=seed) for seed, one in enumerate(made)]
    parts = made[0]._replace(scores=pd.concat(scores), losses=pd.concat(losses))
    distances, losses = knob_figures.knob_numbers(parts, "1.5")["digits"]
    logs = np.log(3.0 * np.array(changes))
    half = stats.t.ppf(0.975, 2) * logs.std(ddof=1) / 3**0.5
    assert distances["tau 2, paper"].half_width == pytest.approx(half) and distances["Diff-Tuning"].half_width == pytest.approx(0)
    assert losses["tau 2, paper"].half_width == pytest.approx(0, abs=1e-9)
    axis = knob_figures.knob_figure(parts, "tau").axes[0]
    (bar,) = [line for line in axis.lines if len(line.get_xdata()) == 2 and line.get_alpha() == 0.35 and line.get_xdata()[0] > 1.9]
    mean = np.mean(np.log(parts.scores.query("method == 'tau 2, paper' and guidance == '1.5'").fid))
    assert bar.get_ydata() == pytest.approx(np.exp([mean - half, mean + half]))
    assert any(
        line.get_alpha() == 0.35 and line.get_xdata()[0] == pytest.approx(1.04) for line in axis.lines
    )  # the paper's tau 1, a run of its own
    lost = (parts.scores.method == "tau 2, paper") & (parts.scores.seed == 2)
    fewer, _ = knob_figures.knob_numbers(parts._replace(scores=parts.scores[~lost]), "1.5")["digits"]
    assert fewer["tau 2, paper"].mean == pytest.approx(fewer["Diff-Tuning"].mean + logs[:2].mean())  # of the seeds that both have
