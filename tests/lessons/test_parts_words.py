"""Words of lessons 04 and 05: they follow the tables, and read well for one set or both, with one to three seeds, whatever the runs say."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import stats

from difftuning.lessons import parts_words as words
from difftuning.lessons.bank import answers as bank
from difftuning.lessons.bank import banks
from difftuning.lessons.parts import RUNS, Parts, read_parts, runs_in_words
from difftuning.lessons.weights import answers as weights

pd = pytest.importorskip("pandas")


def made_parts(distances, tasks=tuple(RUNS), rises=()):
    """One seed: Frechet distances under both guidances by set and method, and the rise in the loss on old pictures by method."""
    scores = [
        {"task": task, "method": method, "seed": 0, "guidance": guidance, "fid": fid}
        for task, by_method in distances.items() for method, pair in by_method.items() for guidance, fid in zip(("1", "1.5"), pair)
    ]  # fmt: skip
    losses = [
        {"task": task, "data": "source", "method": method, "seed": 0, "tenth": tenth, "before": 1.0, "after": 1 + rise}
        for task in tasks for method, rise in dict(rises).items() for tenth in range(1, 11)
    ]  # fmt: skip
    return Parts(pd.DataFrame(scores), pd.DataFrame(losses))


DISTANCES = {"footwear": {"plain": (2, 2), "Diff-Tuning": (1, 2.01)}, "digits": {"plain": (2, 2), "Diff-Tuning": (3, 1)}}
RISES = {"plain": 0.6, "Diff-Tuning": 0.3}


def test_every_method_has_its_row_and_every_setting_its_column():
    """1 for 2 is half, 3 for 2 half as much again, and 2.01 for 2 no difference."""
    parts = made_parts(DISTANCES, rises=RISES | {"bank of noise": 0.5})
    table = words.compared_with(parts, ["Diff-Tuning", "bank of noise", "plain"], "plain", {"plain": "no tricks"})
    assert table.splitlines() == [
        "| new samples, compared with: no tricks | footwear, guidance 1 | footwear, guidance 1.5 | digits, guidance 1 | digits, guidance 1.5 | change of the distance, on average |",
        "|---|---|---|---|---|---|",
        "| Diff-Tuning | better, 50 % | no clear difference | worse, 50 % | better, 50 % | −22 % |",
        "| bank of noise | – | – | – | – | – |",
        "| no tricks | no clear difference | no clear difference | no clear difference | no clear difference | +0 % |",
    ]


def test_the_margin_speaks_of_the_interval_with_three_seeds():
    parts = made_parts(DISTANCES, rises=RISES)
    assert words.margin_in_words(parts) == "(Less than 5 % is no clear difference.)"
    parts = Parts(pd.concat([parts.scores.assign(seed=seed) for seed in range(3)]), parts.losses)
    assert words.margin_in_words(parts).startswith("(A difference below 5 %, or whose 95 % interval holds 0, is no clear difference;")


def test_with_three_seeds_a_mean_has_its_interval_whichever_way_it_points():
    made = [made_parts({"digits": {"plain": (2, 2), "Diff-Tuning": (factor, factor)}}, ["digits"], RISES) for factor in (1.0, 1.2, 1.1)]
    parts = Parts(pd.concat([one.scores.assign(seed=seed) for seed, one in enumerate(made)]), made[0].losses)
    logs = np.log([2.0, 2 / 1.2, 2 / 1.1])
    half = stats.t.ppf(0.975, 2) * logs.std(ddof=1) / 3**0.5
    low, mid, high = (100 * (1 - np.exp(-(logs.mean() + shift))) for shift in (-half, 0, half))
    said = words.samples_in_words(parts, "Diff-Tuning")
    assert said == f"better (distance −{mid:.0f} % [−{high:.0f} to −{low:.0f}] on average)" and 0 < low < mid < high
    low, mid, high = (100 * (np.exp(logs.mean() + shift) - 1) for shift in (-half, 0, half))
    assert words.samples_in_words(parts, "plain", "Diff-Tuning") == f"worse (distance +{mid:.0f} % [+{low:.0f} to +{high:.0f}] on average)"
    assert words.samples_in_words(parts, "plain") == "not clearly different (distance +0 % [+0 to +0] on average)"


def test_sets_that_disagree_are_told_apart_and_others_are_not():
    parts = made_parts(DISTANCES, rises=RISES)
    assert words.where_sets_differ(parts, lambda one: "better") == ""
    assert words.where_sets_differ(parts, lambda one: f"on {one.tasks[0]}") == " (footwear: on footwear; digits: on digits.)"
    assert words.where_sets_differ(words.of_set(parts, "digits"), lambda one: f"on {one.tasks[0]}") == ""


def test_words_are_of_the_mean_over_comparisons_unless_they_contradict_each_other():
    parts = made_parts(DISTANCES, rises=RISES)
    footwear = words.of_set(parts, "footwear")  # half the distance, and the same
    assert words.samples_in_words(parts, "Diff-Tuning") == "better (distance −22 % on average)"
    level = made_parts({"digits": {"plain": (2, 2), "Diff-Tuning": (3, 1.35)}}, ["digits"], RISES)
    assert words.samples_in_words(level, "Diff-Tuning") == "better in some comparisons and worse in others"
    assert words.samples_in_words(footwear, "Diff-Tuning") == "better (distance −29 % on average)"
    assert words.samples_in_words(footwear, "plain", "Diff-Tuning") == "worse (distance +41 % on average)"
    assert words.samples_in_words(parts, "plain") == words.samples_at_large(parts, "plain") == "not clearly different"
    assert words.samples_at_large(footwear, "Diff-Tuning") == "better"
    assert words.samples_in_words(parts, "nobody") == "not measured"
    assert words.kept_in_words(parts, "Diff-Tuning") == "more of the old is kept"
    assert words.kept_in_words(parts, "plain", "Diff-Tuning") == "less of the old is kept"


@pytest.mark.parametrize(
    "holds, stretch, told",
    [
        ([1, 1, 0, 1, 1, 1, 0, 0, 0, 0], [4, 5, 6], "from the fourth to the sixth tenth"),
        ([1, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 2], "in tenths 1 and 2"),
        ([0, 1, 0, 0, 0, 0, 0, 0, 1, 1], [9, 10], "in the last two tenths"),
        ([0] * 9 + [1], [10], "in the last tenth"),
        ([1] * 10, list(range(1, 11)), "all along the chain"),
        ([0] * 10, [], "nowhere"),
    ],
)
def test_the_longest_stretch_of_the_chain_is_found_and_told(holds, stretch, told):
    found = words.longest_run([bool(held) for held in holds])
    assert found == stretch and words.stretch_in_words(found) == told


@pytest.mark.parametrize(
    "tenths, told",
    [
        ([], "no tenth"),
        ([7], "tenth 7"),
        ([8, 9], "tenths 8 and 9"),
        ([1, 2, 3, 4, 10], "tenths 1 to 4 and 10"),
        ([1, 2, 5], "tenths 1, 2 and 5"),
    ],
)
def test_single_tenths_are_told(tenths, told):
    assert words.tenths_in_words(tenths) == told


def stand_in(tasks, seeds, generator, spread):
    """The committed runs of digits, for each of these sets and seeds; distances, losses and rises disturbed at random, method by method."""
    scores, losses = (table[(table.task == "digits") & (table.seed == 0)] for table in read_parts()[:2])
    made = []
    for table, value, keys in ((scores, "fid", ["method", "guidance"]), (losses, "after", ["method", "data"])):
        rows = [table.assign(task=task, seed=seed) for task in tasks for seed in range(seeds)]
        for one in rows:
            groups = one.groupby(keys).ngroup()
            factor = np.exp(spread * generator.standard_normal(groups.max() + 1))[groups]
            one[value] = one[value] * factor * np.exp(0.02 * generator.standard_normal(len(one)))
        made.append(pd.concat(rows))
    return Parts(*made, dict.fromkeys(tasks, 0.5))


def said(parts):
    """All that lessons 04 and 05 write by code."""
    for answer, choices in (
        (weights.swapped_in_words, weights.COMPARED), (weights.heavier_in_words, weights.COMPARED), (bank.noise_in_words, bank.SHARES),
        (bank.labels_in_words, bank.LABELS),
    ):  # fmt: skip
        assert answer(parts) in choices
        yield f"Answer: {answer(parts)}.{words.where_sets_differ(parts, answer)}"
    for sentence in (
        runs_in_words, words.margin_in_words, weights.losses_in_words, weights.behind_the_losses, weights.answer_in_words, lambda parts: weights.recap_in_words(parts, parts),
        weights.heavier_along_the_chain, weights.picked_or_multiplied,
        banks.banks_in_words, bank.avoided_by_hand, bank.protection_in_words, bank.noise_and_memories, bank.answer_in_words,
        bank.labels_along_the_chain, bank.coverage_and_protection, bank.any_bank_in_words, lambda parts: bank.recap_in_words(parts, parts),
    ):  # fmt: skip
        yield sentence(parts)
    table = words.compared_with(parts, list(banks.BANKS), banks.WITHOUT, banks.NAMES)
    assert table.count("\n") == 1 + len(banks.BANKS) and "nan" not in table
    yield bank.short_and_long({"reconsolidation only": 1.2, "bank of noise": 1.3, "Diff-Tuning": 1.1}, parts)


@pytest.mark.parametrize("tasks", [("digits",), ("footwear", "digits")], ids=len)
@pytest.mark.parametrize("seeds, spread", [(1, 0.3), (2, 0.05), (3, 0.3)])
def test_every_sentence_is_whole_whatever_the_runs_say(tasks, seeds, spread):
    for text in said(stand_in(tasks, seeds, np.random.default_rng(seeds), spread)):
        assert not re.search(r"nan|inf\b|None|  |\.\.|\. \.| ,| \.|[,:;]\.|-\d+ %", text), text
        assert text.count("**") in (0, 2) and text.replace("**", "").count("*") % 2 == 0 and text.rstrip("*)").endswith((".", "?")), text
        if len(tasks) == 1:
            assert "footwear" not in text and "sets" not in text.replace("training sets", ""), text
