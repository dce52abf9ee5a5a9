"""Result tables as text: scores, and gains over plain fine-tuning with intervals.

python -m difftuning.studies.report     # writes pilot.md in data/results, from the tables beside it, and the README's table
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Sequence

from ..data.latents import encode_latents
from ..data.tasks import load_task
from ..evaluation.metrics import evaluate
from ..models.loading import load_pretrained
from ..support.files import atomic_path, write_text
from ..support.world import data_folder, world_version
from .expected import RIGHT, Found, pilot_found
from .gains import (
    BASELINE,
    at_mark,
    best_setting,
    by_seed,
    by_seed_and_set,
    by_set,
    estimate,
    gain_at_own_best,
    gain_over,
    loss_gain,
    mean_gain,
    paired_gain,
    read_table,
    verdict,
)
from .grid import SETS
from .transferability import index_against_gain, index_table

if TYPE_CHECKING:
    import pandas

MEASURES = {"fid": "Frechet distance", "kid": "Kernel distance"}
SUMMED_UP_AT = "1.5"  # the guidance of the summary, the one that users will take


def score_table(table: pandas.DataFrame, guidance: str, score: str = "fid") -> list[str]:
    """Markdown: scores of every method by step, mean and interval over seeds."""
    steps, rows = sorted(table.step.unique()), []
    for method in table.method.unique():
        scores = by_seed(table, method, score)
        rows.append([method, *(estimate(at_mark(scores, guidance, step).to_numpy()).text() for step in steps)])
    return markdown(["method", *_by_step(steps)], rows)


def gain_table(table: pandas.DataFrame, score: str = "fid") -> list[str]:
    """Markdown: gains over plain fine-tuning at every guidance and step, and each method at its own best."""
    steps, rows = sorted(table.step.unique()), []
    for method in _rivals(table):
        for guidance in table.guidance.unique():
            rows.append([method, guidance, *(paired_gain(table, method, guidance, step, score).percent for step in steps)])
        rows.append([method, "each at its own best", gain_at_own_best(table, method, score).percent, *[""] * (len(steps) - 1)])
    return markdown(["method", "guidance", *_by_step(steps)], rows)


def loss_gain_table(losses: pandas.DataFrame) -> list[str]:
    """Markdown: `loss_gain` of every method on both sets, by step."""
    steps = sorted(losses.step.unique())
    rows = [
        [method, data, *(loss_gain(losses, method, data, step).percent for step in steps)]
        for method in _rivals(losses)
        for data in ("target", "source")
    ]
    return markdown(["method", "on", *_by_step(steps)], rows)


def copied_table(table: pandas.DataFrame) -> list[str]:
    """Markdown: the share of samples that repeat a training picture, after the last step, mean over seeds."""
    last, guidances, rows = table[table.step == table.step.max()], list(table.guidance.unique()), []
    for method in table.method.unique():
        shares = last[last.method == method].groupby("guidance").copied.mean()
        rows.append([method, *(f"{shares[name]:.1%}" if name in shares else "–" for name in guidances)])
    return markdown(["method", *(f"guidance {name}" for name in guidances)], rows)


def mean_gain_table(table: pandas.DataFrame, guidance: str, step: int, score: str = "fid") -> list[str]:
    """Markdown: the mean over sets of each method's gain, and beside it the gain of the scores' means over sets; of the sets that both have."""
    here, rows = table[(table.guidance == guidance) & (table.step == step) & (table.split == "test")], []
    for method in _rivals(table):
        plain, ours = by_seed_and_set(here, method, score)
        of_means = gain_over(plain.mean(axis=1), ours.mean(axis=1))
        rows.append([method, mean_gain(table, method, guidance, step, score).percent, of_means.percent])
    return markdown(["method", "mean of the gains", "gain of the means"], rows)


def _rivals(table: pandas.DataFrame) -> list[str]:
    return [name for name in table.method.unique() if name != BASELINE]


def _by_step(steps: Sequence[int]) -> list[str]:
    return [f"{step} steps" for step in steps]


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table; `rows` are as long as `head`."""
    first, *others = (f"| {' | '.join(cells)} |" for cells in (head, *rows))
    return [first, "|" + "---|" * len(head), *others]


def renew_table(path: Path, lines: Sequence[str]) -> None:
    """Put a Markdown table in the place of the one in the file that has the same head; ValueError where there is none."""
    before, head, after = path.read_text(encoding="utf-8").partition(f"\n{lines[0]}\n")
    if not head:
        raise ValueError(f"{path} has no table that begins with {lines[0]}")
    rest = after.splitlines()
    ends = next((number for number, line in enumerate(rest) if not line.startswith("|")), len(rest))
    write_text(path, "\n".join([before, *lines, *rest[ends:]]) + "\n")


def floor_table(sets: Sequence[tuple[str, int]] = SETS, samples: int = 500) -> pandas.DataFrame:
    """What real pictures score against the test split: as many training pictures as a run has samples, as they are and through the autoencoder."""
    import pandas

    pretrained, rows = load_pretrained("tiny"), []
    for name, count in sets:
        task, reference = load_task(name), load_task(name, split="test")
        task = task.subset(range(min(count, samples)))
        decoded = pretrained.decode(encode_latents(pretrained, task, progress=False)["latents"]).cpu()
        for pictures, images in (("training pictures", task.images), ("the same through the autoencoder", decoded)):
            found = evaluate(images, reference)
            row = {"world": world_version(), "task": name, "training_pictures": count, "pictures": pictures}
            rows.append(row | {score: found[score] for score in MEASURES})
    return pandas.DataFrame(rows)


# study -> title, and what was predicted before its runs
REPORTS = {"pilot": ("The pilot in numbers", "expected.md")}


def study_report(name: str, folder: Path) -> str:
    """The text of a study's report, from the tables in `folder`."""
    title, expected = REPORTS[name]
    table, losses, floors = (read_table(each, folder) for each in (name, f"{name}_losses", "floors"))
    last = int(table.step.max())
    lines = [
        *_head(title, table), "",
        f"What we expected before any run stands in [{expected}]({expected}).", "",
        f"**Found**, gains over plain fine-tuning; all but the first after {last} steps, copies at guidance {SUMMED_UP_AT}:", "",
        *summary_table(table, losses),
    ]  # fmt: skip
    for guidance in table.guidance.unique():
        lines += [
            "",
            f"Frechet distance, mean over the sets at guidance {guidance}, {last} steps:",
            "",
            *mean_gain_table(table, guidance, last),
        ]
    lines += ["", *transferability_section(read_table("transferability", folder), table, last)]
    lines += ["", "## Expected, and found", "", *expected_table(pilot_found(table, losses, read_table("parts", folder)))]
    return "\n".join(lines + _sets(table, losses, floors)).rstrip() + "\n"


def transferability_section(indices: pandas.DataFrame, table: pandas.DataFrame, step: int, method: str = "Diff-Tuning") -> list[str]:
    """Markdown: the index, measured before tuning, beside the gain on each set."""
    found, correlation = index_against_gain(indices, table, method, SUMMED_UP_AT, step)
    tasks = {name.split(",")[0] for name, _, _ in found}
    said = "with fewer than three sets there is no correlation" if correlation != correlation else f"rank correlation {correlation:+.2f}"
    return [
        "Does `transferability`, measured before any tuning, say where the method gains? Its index (0: the data end is denoised as well as at home) and",
        f"the gain of {method} at guidance {SUMMED_UP_AT} after {step} steps; over {len(found)} sets, {said}. The sets are of {len(tasks)} tasks, and the index hardly differs",
        "between sets of one task, so it tells little more than the task's name: with so few tasks no rank says anything.", "",
        *markdown(["training set", "index", "gain"], [[name, f"{index:.2f}", gain.percent] for name, index, gain in found]),
    ]  # fmt: skip


def expected_table(found: Found) -> list[str]:
    """Markdown: each prediction, whether it was right, and what came."""
    return markdown(["expected", "right", "found"], [[said, RIGHT[holds], came] for said, (holds, came) in found.items()])


def summary_table(table: pandas.DataFrame, losses: pandas.DataFrame) -> list[str]:
    """Markdown: the main findings, a row for each set and method."""
    last, rows = int(table.step.max()), []
    rivals = _rivals(table)
    for name, mine in by_set(table):
        copied = mine[(mine.step == last) & (mine.guidance == SUMMED_UP_AT)].groupby("method").copied.mean()
        of_set = losses[losses.set == name]
        for method in [rival for rival in rivals if rival in set(mine.method)]:
            best = gain_at_own_best(mine, method)
            distance = (paired_gain(mine, method, guidance, last).percent for guidance in ("1", SUMMED_UP_AT, f"domain {SUMMED_UP_AT}"))
            loss = (loss_gain(of_set, method, data, last).percent for data in ("target", "source"))
            copies = f"{copied[method]:.0%} for plain's {copied[BASELINE]:.0%}"
            rows.append([name, method, f"{best.percent}: {verdict(best)}", *distance, *loss, copies])
    distances = ["Frechet distance, each at its own best", "unguided", f"guidance {SUMMED_UP_AT}", "Domain Guidance"]
    head = [*distances, "held-out loss, target", "held-out loss, source", "copies"]
    return markdown(["training set", "method", *head], rows)


def readme_table(table: pandas.DataFrame, losses: pandas.DataFrame, method: str = "Diff-Tuning") -> list[str]:
    """Markdown, a row for each set: by how much the method is better than plain fine-tuning after the last step, and each at its own best."""
    last, rows = int(table.step.max()), []
    for name, mine in by_set(table):
        samples = [paired_gain(mine, method, SUMMED_UP_AT, last), gain_at_own_best(mine, method)]
        loss = [loss_gain(losses[losses.set == name], method, data, last) for data in ("target", "source")]
        rows.append([name, str(samples[0].seeds), *(each.percent for each in (*samples, *loss))])
    return markdown(
        [
            "training set",
            "seeds",
            f"Frechet distance, guidance {SUMMED_UP_AT}",
            "Frechet distance, own best",
            "loss on new pictures",
            "loss on old pictures",
        ],
        rows,
    )


def _head(title: str, table: pandas.DataFrame) -> list[str]:
    seeds = table.groupby(["method", "set"], sort=False).seed.nunique()
    counts = ", ".join(f"{method} {'/'.join(map(str, dict.fromkeys(own)))}" for method, own in seeds.groupby("method", sort=False))
    return [
        f"# {title}", "",
        f"World {table.world.iloc[0]}; test splits; seeds of each method (by set, where they differ): {counts}; {table.samples.max()} samples a score,",
        f"drawn by {table.sampler.iloc[0]} in {table.sampling_steps.max()} steps. Distances in our feature space, lower is better; mean over seeds and 95 % interval.",
        "Gains say by how much a method's number is lower than plain fine-tuning's: the mean of log(plain / ours) over seeds as a percentage, and in brackets the ends of its 95 % interval.",
        "\"Each at its own best\": guidance and steps are chosen on the validation split, for either method, Domain Guidance aside. Written by `python -m difftuning.studies.report`.",
    ]  # fmt: skip


def _sets(table: pandas.DataFrame, losses: pandas.DataFrame, floors: pandas.DataFrame) -> list[str]:
    lines, last = [], int(table.step.max())
    for name, rows in by_set(table):
        plain = best_setting(rows, BASELINE)
        lines += [
            "",
            f"## {name}",
            "",
            f"Plain fine-tuning is best at guidance {plain[0]} after {plain[1]} steps. What real pictures score:",
            "",
        ]
        for _, floor in floors[floors.set == name].iterrows():
            lines.append(f"- {floor.pictures}: Frechet {floor.fid:.2f}, kernel {floor.kid:.3f}")
        lines += ["", f"Samples that repeat a training picture, after {last} steps:", "", *copied_table(rows)]
        lines += [
            "",
            "Held-out loss, mean over the chain, lower than plain fine-tuning's by:",
            "",
            *loss_gain_table(losses[losses.set == name]),
        ]
        for score, measure in MEASURES.items():
            for guidance in rows.guidance.unique():
                lines += ["", f"{measure} at guidance {guidance}:", "", *score_table(rows, guidance, score)]
            lines += ["", "Gain in it over plain fine-tuning:", "", *gain_table(rows, score)]
    return lines


if __name__ == "__main__":
    results = data_folder() / "results"
    for table, rows in (("floors", floor_table()), ("transferability", index_table(SETS))):
        with atomic_path(results / f"{table}.csv") as scratch:
            rows.to_csv(scratch, index=False, float_format="%.5g", lineterminator="\n")
    for name in REPORTS:
        write_text(results / f"{name}.md", study_report(name, results))
    renew_table(results.parent.parent / "README.md", readme_table(read_table("pilot", results), read_table("pilot_losses", results)))
