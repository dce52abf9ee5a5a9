"""Every method that the studies compare can be asked for by flags: a run of it keeps what the study's own call would.

Left out are the controls whose banks no user has, and the regularizers' other weights.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest

import difftuning as dt
from difftuning.models.adapters.options import ADAPTERS, VPT, AdaptFormer, DiffFit, LoRA
from difftuning.studies.banks import shipped_bank
from difftuning.studies.methods import METHODS, PLAIN, REGULARIZER_WEIGHTS, UNIFORM, Method
from difftuning.support.files import read_json
from difftuning.support.options import describe
from difftuning.training.regularizers import EWC, L2SP, REGULARIZERS, Distillation
from tests.cli.helpers import run

ASKED = {name: method for name, method in METHODS.items() if method.bank in (None, shipped_bank) and name not in REGULARIZER_WEIGHTS} | {
    "LoRA, all options": Method(adapter=LoRA(rank=2, alpha=3.0, targets="all")),
    "DiffFit, one block": Method(adapter=DiffFit(depth=1)),
    "AdaptFormer, all options": Method(adapter=AdaptFormer(bottleneck=3, scale=2.0, parallel=True)),
    "VPT, two tokens": Method(adapter=VPT(tokens=2)),
    "EWC, pictures of its own": Method(UNIFORM, bank=None, regularizer=EWC(samples=3, sampling_steps=2)),
    "distillation, no bank": Method(UNIFORM, bank=None, regularizer=Distillation(weight=2.0, on="target")),
    "an adapter, a regularizer and early stopping": Method(adapter=LoRA(), regularizer=L2SP(), stopping=dt.EarlyStopping),
}


def flags(method: Method) -> list[object]:
    """Only what is not the default."""
    found = [part for name, value in method.options.items() for part in flag(name, value)]
    for role, chosen, names, prefix in (("adapter", method.adapter, ADAPTERS, ""), ("regularizer", method.regularizer, REGULARIZERS, "regularizer_")):  # fmt: skip
        if chosen is not None:
            found += [f"--{role}", next(name for name, one in names.items() if type(one) is type(chosen))]
            changed = (each for each in fields(chosen) if getattr(chosen, each.name) != each.default)
            found += [part for each in changed for part in flag(prefix + each.name, getattr(chosen, each.name))]
    return found


def flag(name: str, value: object) -> list[object]:
    name = f"--{name.replace('_', '-')}"
    return [name] if value is True else [name, value]


def of_test_pictures(pictures: Path, place: Path) -> Path:
    with np.load(pictures) as held:
        np.savez(place, images=held["test_images"], labels=held["test_labels"], class_names=held["class_names"])
    return place


@pytest.mark.parametrize("name", ASKED)
def test_a_method_is_asked_for_by_flags(capsys, model, pictures, tuned, tmp_path, name):
    method, folder = ASKED[name], tmp_path / "run"
    given = ["--model", model, "--task", pictures, "--folder", folder, "--steps", 1, "--batch-size", 10, "--device", "cpu"]
    given += [] if method.bank is None else ["--bank", tuned.parent / "bank"]
    if method.stopping:
        given += [
            "--early-stopping",
            of_test_pictures(pictures, tmp_path / "other.npz"),
            "--early-stopping-every",
            1,
            "--early-stopping-draws",
            4,
        ]
    code, out, err = run(capsys, "train", *given, *flags(method))
    assert code == 0 and "1 steps, last target_loss" in out and "warning" not in err, err
    config = dt.DiffTuningConfig(steps=1, batch_size=10, **method.options)
    if hasattr(method.regularizer, "adjusted"):
        config = method.regularizer.adjusted(config, dt.MemoryBank.load(tuned.parent / "bank"))
    kept = read_json(folder / "run.json")
    assert {key: kept[key] for key in asdict(config)} == asdict(config)
    roles = {"adapter": method.adapter, "regularizer": method.regularizer}
    assert {role: kept.get(role) for role in roles} == {role: chosen and describe(chosen) for role, chosen in roles.items()}
    assert (kept["bank"] is not None) == (method.bank is not None)
    assert ("early_stopping" in str(kept)) == (method.stopping is not None)
    code, _, err = run(capsys, "sample", "--model", folder, "--steps", 2, "--device", "cpu", "--out", tmp_path / "drawn")
    assert code == 0 and dt.load_task(tmp_path / "drawn.npz").labels.tolist() == dt.load_fine_tuned(folder).rows.tolist(), err


def test_every_option_of_an_adapter_and_a_regularizer_is_asked_for_above():
    named = {part for method in ASKED.values() for part in flags(method) if str(part).startswith("--")}
    assert {f"--{each.name}" for one in ADAPTERS.values() for each in fields(one)} <= named
    assert {f"--regularizer-{each.name.replace('_', '-')}" for one in REGULARIZERS.values() for each in fields(one)} <= named
    assert PLAIN in ASKED.values()
