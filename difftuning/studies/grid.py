"""The grids behind the result tables: methods x sets x seeds.  A cell is one run, measured at several step counts (cell.py)."""

from __future__ import annotations

import functools
import itertools
from contextlib import suppress
from typing import Any, Iterable, Sequence

from ..config import StudyCell
from ..data.tasks import list_tasks
from ..support.files import read_json
from ..support.options import require_choice
from ..support.world import world_file
from .choices import LEARNING_RATES, TRIED
from .control_cells import ControlCell, control_cells, control_rates
from .methods import ADAPTED, BASELINES, MAIN, METHODS, PARTS, PILOT, REGULARIZER_WEIGHTS, SWEPT
from .premise import DEVELOPMENT

# The development tasks, by number of training pictures; those of the criterion first.
SETS = (("footwear", 2000), ("digits", 2000), ("digits", 200), ("footwear", 200), ("footwear", 10_000))
FEW, SOME = ("digits", 200), ("footwear", 2000)  # the sets on which variants and rates are tried
SIZES = [("footwear", count) for count in (50, 200, 1000, 5000, 10_000)] + [("digits", count) for count in (50, 1000, 2000)]  # beside them
PILOT_STEPS = (120, 400, 800, 1600)
REPLACED = (0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1)  # of the last reverse steps
MOST = 2000  # training pictures of a task in the main comparison


def grid(sets: Iterable[tuple[str, int]], methods: Iterable[str], seeds: Iterable[int], learning_rates: Sequence[float] | None = None,
         **options: Any) -> list[StudyCell]:  # fmt: skip
    """Every combination, seed by seed, set by set and method by method, so that an unfinished study compares something.

    A set is a task and how many of its training pictures.  Each method has its own learning rate by default.
    """
    sets, methods = list(sets), list(methods)
    for method in sorted(set(methods)):
        require_choice("method", method, METHODS)
    return [
        StudyCell(task, method, seed, rate, training_pictures=pictures, **options)
        for seed, (task, pictures), method in itertools.product(seeds, sets, methods)
        for rate in learning_rates or [LEARNING_RATES[method]]
    ]


def studies() -> dict[str, list[StudyCell] | list[ControlCell]]:
    """The studies by name, in the order in which they are run.

    All but `main` are on the development tasks: settings are chosen on their validation splits.  The last two are of ControlNet.
    """
    usual = {"steps": (400, 800), "scored": (800,), "guidances": ("1", "1.5"), "loss_pictures": 100}
    weights = grid([FEW], ["plain", *REGULARIZER_WEIGHTS], [0], steps=(400,), scored=(), loss_pictures=100)
    rates = [
        cell for method, tried in TRIED.items() for cell in grid([FEW, SOME] if method in MAIN else [SOME], [method], [0], tried, **usual)
    ]
    pilot_grid = functools.partial(grid, SETS, steps=PILOT_STEPS, scored=(400, 1600))
    pilot = pilot_grid(MAIN, [0], steps=(*PILOT_STEPS, 3200), replaced=REPLACED)  # lesson 02 follows these further
    pilot += pilot_grid(MAIN, (1, 2)) + pilot_grid([name for name in PILOT if name not in MAIN], range(3)) + pilot_grid(MAIN, (3, 4))
    parts = grid([FEW, SOME], PARTS, range(3), steps=(800,), guidances=("1", "1.5"))
    main = grid(_main_sets(), PILOT, range(5), steps=(800, 1600), guidances=("1", "1.5", "domain 1.5"), loss_pictures=100)
    adapters = grid([FEW, SOME], [*MAIN, *ADAPTED], range(3), **usual)
    baselines = grid([FEW, SOME], [*MAIN, *BASELINES], range(3), **usual)
    sweeps = grid([FEW, SOME], [*MAIN, *SWEPT], range(3), **usual) + grid(SIZES, MAIN, range(3), **usual)
    return {
        "regularizer_weights": weights, "learning_rates": rates, "pilot": pilot, "parts": parts,
        "main": main, "adapters": adapters, "baselines": baselines, "sweeps": sweeps,
        "controlnet_rates": control_rates(), "controlnet": control_cells(),
    }  # fmt: skip


def select_cells(cells: Sequence[StudyCell] | Sequence[ControlCell], wanted: Sequence[str]) -> list[StudyCell] | list[ControlCell]:
    """Those of the cells that have the values in `wanted`, each a "column=value": in every column one of those given for it.

    The columns are the tables' that say of which run a row is.  ValueError names what there is, where no cell has it.
    """
    rows = [{column: _one_form(value) for column, value in cell.identity.items() if column != "world"} for cell in cells]
    values: dict[str, set[str]] = {}
    for text in wanted:
        column, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"runs are picked by COLUMN=VALUE, such as seed=0, got {text!r}")
        require_choice("column", column, rows[0])
        require_choice(column, _one_form(value), dict.fromkeys(row[column] for row in rows))
        values.setdefault(column, set()).add(_one_form(value))
    chosen = [cell for cell, row in zip(cells, rows) if all(row[column] in kept for column, kept in values.items())]
    if not chosen:
        raise ValueError(f"no run of the study has all of {'; '.join(wanted)}")
    return chosen


def _one_form(value: object) -> str:
    """As text, a number in the shortest way: 3e-4 is 0.0003."""
    with suppress(ValueError):
        return f"{float(value):.15g}"
    return str(value)


def _main_sets() -> list[tuple[str, int]]:
    """All tasks, the development ones first, with up to `MOST` of their training pictures."""
    tasks = [*DEVELOPMENT, *(task for task in list_tasks() if task not in DEVELOPMENT)]
    return [(task, min(MOST, read_json(world_file(f"tasks/{task}.json"))["splits"]["train"])) for task in tasks]
