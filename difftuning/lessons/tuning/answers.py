"""What the runs of lesson 06 answer, in words that follow the tables: a method that is not there is not spoken of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterable, Sequence

from ...studies.gains import LEAST_SEEDS, Gain, mean_gain, mean_loss_gain, read_table
from ...studies.report import markdown
from ..numerals import listed
from ..parts import ALIKE, BETTER, GUIDANCES, KEPT, RUNS, SAME, WORSE, Parts, distance_saved, in_a_word, rise_avoided, seeds
from ..seeds import runs
from .plane import (
    FAMILIES,
    LOSS,
    MEASURES,
    METHODS,
    SAMPLES,
    STEPS,
    TERMS,
    Place,
    Study,
    View,
    beats,
    front,
    path,
    places,
    set_name,
    shared_runs,
)

if TYPE_CHECKING:
    import pandas

STOPS = ("earlier", "at the same step", "later")
STANDS = ("on the front", "beaten by another way of replay", "beaten by a method of another kind")
DRAWS = {BETTER: "better samples", SAME: "samples not clearly different", WORSE: "worse samples"}
BESIDE = {BETTER: "better than plain's", SAME: "not clearly different from plain's", WORSE: "worse than plain's"}
KEEPS = {BETTER: "more of the old kept", SAME: "about as much of the old kept", WORSE: "less of the old kept"}
SHOWN = MEASURES[SAMPLES]  # the guidance of the samples that the lesson looks at


def convergence_in_words(study: Study) -> str:
    """Markdown, a line for each set: when Diff-Tuning's samples are better, and when the loss on new pictures is lowest."""
    lines = []
    for task in study.end.tasks:
        found: dict[str, list[int]] = {BETTER: [], SAME: [], WORSE: []}
        for step in path(study, View(task), "Diff-Tuning"):
            found[_samples(study.at[step], task, "Diff-Tuning")].append(step)
        words = (f"{BESIDE[word]} after {_joined(steps)} steps" for word, steps in found.items() if steps)
        plain, ours = (_lowest(study, task, method, LOSS) for method in ("plain", "Diff-Tuning"))
        lowest = f"{plain:,} steps, under both" if plain == ours else f"{plain:,} steps (plain) and {ours:,} (Diff-Tuning)"
        lines.append(f"- *{set_name(task)}*: Diff-Tuning's samples are {'; '.join(words)}. The loss is lowest after {lowest}.")
    return "\n".join(lines)


def stop_in_words(study: Study, task: str) -> str:
    """Which of `STOPS` plain fine-tuning's samples are best, beside its loss on new pictures."""
    by_loss, by_samples = (_lowest(study, task, "plain", measure) for measure in (LOSS, SAMPLES))
    return STOPS[(by_samples > by_loss) - (by_samples < by_loss) + 1]


def beside_plain(parts: Parts, task: str, methods: Iterable[str]) -> str:
    """Markdown, a line for each method: its samples and what it keeps, beside plain fine-tuning with as many steps."""
    lines = (
        f"- *{method}*: {DRAWS[_samples(parts, task, method)]}, {KEEPS[_old(parts, task, method)]}"
        for method in parts.present(methods)
        if method != "plain"
    )
    return f"Beside plain fine-tuning, with {_set(task)}:\n\n" + "\n".join(lines)


def holds_best(study: Study, task: str) -> str:
    """Which method that holds on to the old forgets least."""
    return _least_forgetful(study, task, FAMILIES["hold on"])


def stands_in_words(study: Study, task: str) -> str:
    """Which of `STANDS` Diff-Tuning is."""
    winners = _winners(study, View(task), "Diff-Tuning")
    return STANDS[0] if not winners else STANDS[1] if set(winners) <= set(FAMILIES["replay"]) else STANDS[2]


def answer_in_words(study: Study) -> str:
    """The lesson's answer in Markdown: a bold sentence with the front of each set, what holds for all settings, and where Diff-Tuning stands."""
    fronts = {task: _front(study, View(task)) for task in study.end.tasks}
    bold = "; ".join(f"{listed(methods)} with {_set(task)}" for task, methods in fronts.items())
    views = [View(task, measure) for task in study.end.tasks for measure in MEASURES if measure != LOSS]
    everywhere = set.intersection(*(set(_front(study, view)) for view in views))
    always = [method for method in METHODS if method in everywhere]
    count = f"all {len(views)} settings ({len(fronts)} sets, guidance {' and '.join(GUIDANCES)})"
    common = f"On it in {count}: {listed(always)}." if always else f"No method is on it in {count}."
    by_loss = [View(task, LOSS) for task in study.end.tasks]
    beaten = _where_beaten(study, views, "Diff-Tuning", "By the samples", "in {} settings")
    losing = _where_beaten(study, by_loss, "Diff-Tuning", "By the loss on new pictures", "on {} sets")
    return f"**On the front: {bold}.** {common} {beaten} {losing}"


def terms_in_words(terms: Parts) -> str:
    """Markdown: Diff-Tuning's terms beside plain fine-tuning, and which of them no other beats."""
    lines = []
    for task in terms.tasks:
        best = front(places(terms, View(task), TERMS), View(task).margins)
        lines.append(f"{beside_plain(terms, task, TERMS)}\n\nOf the four, beaten by none: {listed(best)}.")
    return "\n\n".join(lines)


def terms_in_numbers() -> str:
    """Markdown, a table: by how much Diff-Tuning and each of its terms lower distances and losses, the mean over all sets of the pilot."""
    table, losses = read_table("pilot"), read_table("pilot_losses")
    last, seeds = shared_runs(table, "set", table.set.unique())
    return _in_numbers(*(rows[rows.seed.isin(seeds)] for rows in (table, losses)), TERMS[1:], last)


def methods_in_numbers() -> str:
    """The same of all methods, the mean over the sets of the study of baselines."""
    return _in_numbers(read_table("baselines"), read_table("baselines_losses"), METHODS[1:], STEPS)


def _in_numbers(table: pandas.DataFrame, losses: pandas.DataFrame, methods: Iterable[str], step: int) -> str:
    over = f"mean over {table.set.nunique()} sets, {step:,} steps, {runs([table.seed.nunique()])}"
    head = [
        f"lower than after plain fine-tuning by (a minus: higher); {over}",
        f"distance of samples, guidance {SHOWN}",
        "the same, without guidance",
    ]
    rows = []
    for method in methods:
        gains = [mean_gain(table, method, guidance, step) for guidance in (SHOWN, "1")]
        gains += [mean_loss_gain(losses, method, data, step) for data in ("target", "source")]
        rows.append([method, *map(_number, gains)])
    return "\n".join(markdown([*head, "loss on new pictures", "loss on old pictures"], rows))


def _number(gain: Gain) -> str:
    """A gain in per cent, and what is more than twice as high in times."""
    if not gain.lower < -1:
        return gain.percent
    low, high = sorted(1 - end for end in gain.ends)
    return f"{1 - gain.lower:.2g} times as high" + (f" ({low:.2g} to {high:.2g})" if gain.has_interval else "")


def guide_in_words(study: Study) -> str:
    """Markdown: what one would use, by what counts; a line for each case and set."""
    cases = {
        "Only the new samples count": lambda task: _best_samples(study, task),
        "Both count (a method has to keep more than plain fine-tuning, and to draw no worse)": lambda task: _keepers(study, task),
        "Only the old pictures count": lambda task: _least_forgetful(study, task),
    }
    return "\n".join(
        f"- **{case}.** " + "; ".join(f"{_set(task)}: {choose(task)}" for task in study.end.tasks) + "." for case, choose in cases.items()
    )


def margins_in_words(parts: Parts) -> str:
    """What counts as a difference, once for all sentences."""
    chance = " and the 95 % interval of the difference does not hold 0" if seeds(parts)[1] >= LEAST_SEEDS else ""
    return (
        f"(All after {STEPS} steps; samples at guidance {SHOWN} where none is named. Samples are clearly different if they are more than {100 * ALIKE:.0f} % "
        f"apart{chance}; more of the old is kept if {100 * KEPT:.0f} % of plain's rise in loss is avoided. The front is drawn by the means alone.)"
    )


def _set(task: str) -> str:
    return f"{RUNS[task]:,} pictures of {task}"


def _samples(parts: Parts, task: str, method: str) -> str:
    return in_a_word([distance_saved(parts, task, method, "plain", SHOWN)], ALIKE)


def _old(parts: Parts, task: str, method: str) -> str:
    return in_a_word([rise_avoided(parts, task, method, "plain")], KEPT)


def _lowest(study: Study, task: str, method: str, measure: str) -> int:
    found = path(study, View(task, measure), method)
    return min(found, key=lambda step: found[step].missed.mean)


def _least_forgetful(study: Study, task: str, methods: Sequence[str] = METHODS) -> str:
    found = places(study.end, View(task), methods)
    return min(found, key=lambda method: found[method].forgotten.mean)


def _front(study: Study, view: View) -> list[str]:
    return front(places(study.end, view), view.margins)


def _winners(study: Study, view: View, method: str) -> list[str]:
    """Who beats a method."""
    found = places(study.end, view)
    return [other for other, where in found.items() if beats(where, found[method], view.margins)]


def _where_beaten(study: Study, views: Sequence[View], method: str, where: str, what: str) -> str:
    """By whom, and on how many of these views: `what` says it of a number, such as "on {} sets"."""
    winners = [winner for view in views for winner in _winners(study, view, method)]
    if not winners:
        return f"{where} {method} is beaten by none."
    often = [f"{winner} ({what.format(f'{winners.count(winner)} of {len(views)}')})" for winner in METHODS if winner in winners]
    return f"{where} {method} is beaten by {listed(often)}."


def _best_samples(study: Study, task: str) -> str:
    """The method of the lowest distance, and those that are not clearly worse."""
    found = places(study.end, View(task))
    first, *others = sorted(found, key=lambda method: found[method].missed.mean)
    alike = [method for method in others if in_a_word([distance_saved(study.end, task, first, method, SHOWN)], ALIKE) != BETTER]
    return f"{first}" + (f"; not clearly behind it {listed(alike)}" if alike else "")


def _keepers(study: Study, task: str) -> str:
    """Of those that keep the old better than plain and have no worse samples: the one that forgets least, and the one of the best samples."""
    good = [m for m in study.methods if m != "plain" and _old(study.end, task, m) == BETTER and _samples(study.end, task, m) != WORSE]
    found: dict[str, Place] = places(study.end, View(task), good)
    if not found:
        return "no method keeps more than plain fine-tuning without worse samples"
    keeps, draws = (min(found, key=lambda method: found[method][axis].mean) for axis in (0, 1))
    if keeps == draws:
        return keeps
    return f"{keeps}, which keeps most, or {draws}, which draws best"


def _joined(steps: Sequence[int]) -> str:
    return listed([f"{step:,}" for step in steps])
