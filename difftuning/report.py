"""Result tables as text: scores, and gains over plain fine-tuning with intervals.

    python -m difftuning.report     # writes pilot.md and few.md in data/results, from the tables beside them
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Sequence

from .files import atomic_path, data_folder
from .gains import (
    AIM,
    BASELINE,
    at_mark,
    best_setting,
    by_seed,
    estimate,
    gain_at_own_best,
    gain_at_the_data_end,
    loss_gain,
    paired_gain,
    read_table,
    verdict,
)
from .result_tables import world_version

if TYPE_CHECKING:
    import pandas

MEASURES = {"fid": "Frechet distance", "kid": "Kernel distance"}


def score_table(table: pandas.DataFrame, guidance: str, score: str = "fid") -> list[str]:
    """Markdown: scores of every method by step, mean and interval over seeds."""
    steps, rows = sorted(table.step.unique()), []
    for method in table.method.unique():
        scores = by_seed(table, method, score)
        rows.append([method, *(estimate(at_mark(scores, guidance, step).to_numpy()).text() for step in steps)])
    return _markdown(["method", *_by_step(steps)], rows)


def gain_table(table: pandas.DataFrame, score: str = "fid") -> list[str]:
    """Markdown: gains over plain fine-tuning at every guidance and step, and each method at its own best."""
    steps, rows = sorted(table.step.unique()), []
    for method in _rivals(table):
        for guidance in table.guidance.unique():
            rows.append([method, guidance, *(paired_gain(table, method, guidance, step, score).percent for step in steps)])
        rows.append([method, "each at its own best", gain_at_own_best(table, method, score).percent, *[""] * (len(steps) - 1)])
    return _markdown(["method", "guidance", *_by_step(steps)], rows)


def loss_gain_table(losses: pandas.DataFrame) -> list[str]:
    """Markdown: `loss_gain` of every method on both sets, by step."""
    steps = sorted(losses.step.unique())
    rows = [
        [method, data, *(loss_gain(losses, method, data, step).percent for step in steps)]
        for method in _rivals(losses)
        for data in ("target", "source")
    ]
    return _markdown(["method", "on", *_by_step(steps)], rows)


def copied_table(table: pandas.DataFrame) -> list[str]:
    """Markdown: the share of samples that repeat a training picture, after the last step, mean over seeds."""
    last, guidances, rows = table[table.step == table.step.max()], list(table.guidance.unique()), []
    for method in table.method.unique():
        shares = last[last.method == method].groupby("guidance").copied.mean()
        rows.append([method, *(f"{shares[name]:.1%}" if name in shares else "–" for name in guidances)])
    return _markdown(["method", *(f"guidance {name}" for name in guidances)], rows)


def mean_gain_table(table: pandas.DataFrame, guidance: str, step: int, score: str = "fid") -> list[str]:
    """Markdown: the mean over tasks of each method's gain, and beside it the gain of the scores' means over tasks."""
    here, rows = table[(table.guidance == guidance) & (table.step == step)], []
    for method in _rivals(table):
        ours, plain = (here[here.method == name].pivot_table(index="seed", columns="task", values=score).dropna() for name in (method, BASELINE))
        seeds = ours.index.intersection(plain.index)
        ours, plain = ours.loc[seeds], plain.loc[seeds]
        of_gains = estimate(((plain - ours) / plain).mean(axis=1).to_numpy())
        of_means = estimate(1 - (ours.mean(axis=1) / plain.mean(axis=1)).to_numpy())
        rows.append([method, of_gains.percent, of_means.percent])
    return _markdown(["method", "mean of the gains", "gain of the means"], rows)


def _rivals(table: pandas.DataFrame) -> list[str]:
    return [name for name in table.method.unique() if name != BASELINE]


def _by_step(steps: Sequence[int]) -> list[str]:
    return [f"{step} steps" for step in steps]


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    first, *others = (f"| {' | '.join(cells)} |" for cells in (head, *rows))
    return [first, "|" + "---|" * len(head), *others]


def floor_table(tasks: list[str]) -> pandas.DataFrame:
    """What real pictures score against the validation split: the training split, as it is and through the autoencoder."""
    import pandas

    from .data import load_task
    from .latents import encode_latents
    from .metrics import evaluate
    from .pretrained import load_pretrained

    pretrained, rows = load_pretrained("tiny"), []
    for name in tasks:
        task, reference = load_task(name), load_task(name, split="validation")
        decoded = pretrained.decode(encode_latents(pretrained, task, progress=False)["latents"]).cpu()
        for pictures, images in (("training pictures", task.images), ("the same through the autoencoder", decoded)):
            found = evaluate(images, reference)
            rows.append({"world": world_version(), "task": name, "pictures": pictures, **{score: found[score] for score in MEASURES}})
    return pandas.DataFrame(rows)


def pilot_report(folder: Path) -> str:
    """The text of pilot.md, from the tables in `folder`."""
    table, losses, floors, replacement = (read_table(name, folder) for name in ("pilot", "pilot_losses", "floors", "pilot_replacement"))
    last = int(table.step.max())
    lines = [
        *_head("The pilot in numbers", table), "",
        "**Predicted** before the runs: Diff-Tuning is behind at few steps and ahead from some 800 on, and at the end by",
        f"{AIM:.0%} or more on both tasks, more where the source covers the target's kind (footwear).", "",
        "**Found**, each method at its own best:", "",
        *_found(table), "",
        "**How much there is to win back.** Plain fine-tuning at its end, with its last reverse steps (up to a fifth of them, as many as serve the other",
        "seeds best) left to the source model, gains so much over itself. A perfect memory of the data end, and nothing else, would bring just that:", "",
    ]  # fmt: skip
    lines += [f"- {task}: {gain_at_the_data_end(rows, BASELINE).percent}" for task, rows in replacement.groupby("task", sort=False)]
    for guidance in table.guidance.unique():
        lines += ["", f"Mean over the tasks at guidance {guidance}, {last} steps:", "", *mean_gain_table(table, guidance, last)]
    return "\n".join(lines + _tasks(table, losses, floors)).rstrip() + "\n"


def few_report(folder: Path) -> str:
    """The text of few.md: the same with a target set of a quarter of the size."""
    table, losses, floors = (read_table(name, folder) for name in ("few", "few_losses", "floors"))
    lines = [
        *_head(f"With {table.training_pictures.iloc[0]} training pictures, in numbers", table), "",
        "**Predicted**: the fewer the pictures, the sooner plain fine-tuning learns them by heart, and the more Diff-Tuning gains.", "",
        "**Found**, each method at its own best:", "",
        *_found(table),
    ]  # fmt: skip
    return "\n".join(lines + _tasks(table, losses, floors)).rstrip() + "\n"


def _head(title: str, table: pandas.DataFrame) -> list[str]:
    counts = ", ".join(f"{method} {seeds}" for method, seeds in table.groupby("method", sort=False).seed.nunique().items())
    return [
        f"# {title}", "",
        f"World {table.world.iloc[0]}; validation splits; seeds of each method: {counts}; {table.samples.max()} samples a score.",
        "Distances in our feature space, lower is better; mean over seeds and 95 % interval. Gains are (plain - ours) / plain, seed by seed.",
        '"Each at its own best": guidance and steps are chosen on the other seeds, for either method. Written by `python -m difftuning.report`.',
    ]  # fmt: skip


def _found(table: pandas.DataFrame) -> list[str]:
    gains = {(task, name): gain_at_own_best(rows, name) for task, rows in table.groupby("task", sort=False) for name in _rivals(rows)}
    return [f"- {task}, {method}: {gain.percent}; {verdict(gain)}" for (task, method), gain in gains.items()]


def _tasks(table: pandas.DataFrame, losses: pandas.DataFrame, floors: pandas.DataFrame) -> list[str]:
    lines, last = [], int(table.step.max())
    for task, rows in table.groupby("task", sort=False):
        plain = best_setting(rows, BASELINE)
        lines += ["", f"## {task}", "", f"Plain fine-tuning is best at guidance {plain[0]} after {plain[1]} steps. What real pictures score:", ""]
        for _, floor in floors[floors.task == task].iterrows():
            lines.append(f"- {floor.pictures}: Frechet {floor.fid:.2f}, kernel {floor.kid:.3f}")
        lines += ["", f"Samples that repeat a training picture, after {last} steps:", "", *copied_table(rows)]
        lines += ["", "Held-out loss, mean over the chain, lower than plain fine-tuning's by:", "", *loss_gain_table(losses[losses.task == task])]
        for score, name in MEASURES.items():
            for guidance in rows.guidance.unique():
                lines += ["", f"{name} at guidance {guidance}:", "", *score_table(rows, guidance, score)]
            lines += ["", "Gain in it over plain fine-tuning:", "", *gain_table(rows, score)]
    return lines


REPORTS = {"pilot.md": pilot_report, "few.md": few_report}

if __name__ == "__main__":
    results = data_folder() / "results"
    with atomic_path(results / "floors.csv") as scratch:
        floor_table(sorted(set(read_table("pilot").task))).to_csv(scratch, index=False, float_format="%.5g")
    for name, write in REPORTS.items():
        with atomic_path(results / name) as scratch:
            scratch.write_text(write(results), encoding="utf-8")
