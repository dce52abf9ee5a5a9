"""The commands: each takes its flags by name, calls a function of the package and prints where the result is."""

from __future__ import annotations

import json
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Sequence

from ..config import ControlNetConfig, DiffTuningConfig, PretrainingConfig
from ..support.files import is_ours, read_text
from ..support.names import one_form, user_path
from ..support.options import require_choice
from ..support.settings import gather, typed
from . import methods
from .control import chosen_captions, control_options, require_control_flags, require_trained_kind
from .parser import PRETRAIN_OPTIONS, PRETRAIN_SETTINGS, TRAIN_OPTIONS, TRAIN_SETTINGS

if TYPE_CHECKING:
    from ..models.pretrained import Pretrained

MOST_PICTURES = 1_000_000  # that one call draws


def pretrain(given: dict[str, Any]) -> None:
    """Pre-train a small DiT on a folder of classes, or on the tiny world's source."""
    options, settings = gather(given, PRETRAIN_OPTIONS, PRETRAIN_SETTINGS)
    from ..data.tasks import load_source, load_task
    from ..training import pretrain as pretraining

    config = PretrainingConfig(**settings)
    autoencoder = _autoencoder(options.get("autoencoder", "tiny"))
    size = typed("size", "int", options["size"]) if "size" in options else None
    source = load_task(options["source"], size=size) if "source" in options else load_source(size=size)
    folder, device = options["folder"], _device(options)
    start = _model(options["start"], device)[0] if "start" in options else None
    pretraining.pretrain(source, autoencoder, config, folder=folder, name=options.get("name", "tiny"), start=start, device=device)
    print(f"{folder}: the model is in {Path(folder) / 'model'}")


def bank(given: dict[str, Any]) -> None:
    """Sample a memory bank, finish one, or repair one."""
    from ..training.memory_bank import MemoryBank, repair_bank

    model, _ = _model(given.pop("model"), _device(given))
    if given.pop("repair", False):
        if others := sorted(set(given) - {"folder"}):
            raise ValueError(f"--repair samples as the bank's own record says: leave --{others[0].replace('_', '-')} out")
        repaired = repair_bank(given["folder"], model)
        print(f"{given['folder']}: {', '.join(repaired) or 'nothing'} sampled again")
        return
    if "size" not in given:
        raise ValueError("--size is needed: the number of samples")
    size = given.pop("size")
    if "prompts" in given:
        prompts = [line.strip() for line in read_text(user_path(given.pop("prompts"))).splitlines() if line.strip()]
        given["labels"] = _repeated(prompts, size, "--size")
    bank = MemoryBank.sample(model, size, **given)
    print(f"{bank.folder}: {len(bank)} samples of {model.name}")


def train(given: dict[str, Any]) -> None:
    """Fine-tune, with a bank by Diff-Tuning; print the last losses."""
    options, settings = gather(given, TRAIN_OPTIONS, TRAIN_SETTINGS)
    adapter, regularizer = (methods.chosen(role, options, settings) for role in ("adapter", "regularizer"))
    stopping = methods.taken("early_stopping", options, settings)
    if adapter is not None and "control" in options:
        raise ValueError("--control trains a ControlNet beside the model, --adapter goes into it: give one of them")
    if "early_stopping" in options and "control" in options:
        raise ValueError("--early-stopping scores a model told labels, --control trains one told prompts: give one of them")
    control = control_options(options)
    from ..data.tasks import load_task
    from ..models.adapters.apply import adapter_of, parameter_share
    from ..support.world import data_folder
    from ..training.controlnet import fine_tune_controlnet
    from ..training.fine_tune import fine_tune
    from ..training.memory_bank import MemoryBank

    config = (ControlNetConfig if "control" in options else DiffTuningConfig)(**settings)
    shipped = ("tiny-text-to-image", "bank_text_to_image") if "control" in options else ("tiny", "bank")
    model, _ = _model(options.get("model", shipped[0]), _device(options))
    if model.takes_prompts and "control" not in options:
        raise ValueError(f"{model.name} is a text-to-image model, which learns by a ControlNet: give --control")
    task = load_task(options["task"], size=model.image_size)
    place = options.get("bank")
    bank = None if place is None else MemoryBank.load(data_folder() / shipped[1] if place == "tiny" else place)
    callbacks = []
    if "early_stopping" in options:
        callbacks = [methods.early_stopping(model, config, options["early_stopping"], task, options["task"], stopping)]
    if "control" in options:
        tune = partial(fine_tune_controlnet, **control)
    else:
        tune = partial(fine_tune, adapter=adapter)
    kept = {"folder": options["folder"], "resume": given.get("resume", True)}
    result = tune(model, task, bank, config, **kept, regularizer=regularizer, callbacks=callbacks)
    losses = ", ".join(f"{name} {result.history[name].iloc[-1]:.4f}" for name in result.history.dropna(axis=1) if name.endswith("_loss"))
    if callbacks and (checks := callbacks[0].losses):
        best = min(checks, key=checks.__getitem__)
        stopped = "stopped early; " if len(result.history) < config.steps else ""
        print(f"{options['folder']}: {stopped}lowest validation loss {checks[best]:.4f} at step {best}: its weights are the result")
    share = (
        ""
        if adapter_of(result.model.denoiser) is None
        else f", {100 * parameter_share(result.model.denoiser):.2f} % of the weights trained"
    )
    print(f"{options['folder']}: {len(result.history)} steps, last {losses}{share}")


def sample(given: dict[str, Any]) -> None:
    """Draw pictures and print where they are."""
    from .. import sampling
    from ..data.pictures import picture_files, write_pictures
    from ..models.load_controlnet import load_controlnet

    picture_files(given["out"])
    require_control_flags(given)
    if "control" in given:
        given["captions"] = chosen_captions(given)  # before a model is loaded
        if "model" in given and "controlnet" not in given:
            require_trained_kind(given["model"], given["control"])
    device = _device(given)
    model, rows = _model(given.pop("model", "tiny-text-to-image" if "control" in given else "tiny"), device, given.pop("adapter", None))
    if "controlnet" in given:
        model = load_controlnet(model, given.pop("controlnet"))
    if "guide" in given:
        if given.get("guidance") == 1:
            raise ValueError("--guidance 1 is none: a --guide has no part in it")
        given["guide"] = _model(given["guide"], device)[0]
    if "control" in given:
        _sample_control(model, given)
        return
    if "prompts" in given:
        if "labels" in given:
            raise ValueError("--prompts and --labels both say what to draw: give one of them")
        if not model.takes_prompts:
            raise ValueError(f"{model.name} is told what to draw by labels, not by prompts: give --labels")
        rows = given.pop("prompts")
    if "labels" in given:
        names = [one_form(name) for name in model.label_names]
        rows = [int(label) if label.isdecimal() and one_form(label) not in names else label for label in given.pop("labels")]
    labels, out = _repeated(rows, given.pop("count", len(rows)), "--count"), given.pop("out")
    images = sampling.sample(model, labels, **given)
    written = [rows.index(label) for label in labels] if model.takes_prompts else sampling.label_rows(model, labels).tolist()
    print(*write_pictures(out, images, written), sep="\n")


def _sample_control(model: Pretrained, given: dict[str, Any]) -> None:
    """Pictures after the conditions found in a task's test pictures, or in all of a set without splits; the conditions lie beside them as OUT_conditions."""
    from ..data.conditions import annotate
    from ..data.pictures import write_pictures
    from ..data.sets import NoSplitError
    from ..data.tasks import load_task, spread_evenly
    from ..sampling import sample_controlnet

    count, out, kind = given.pop("count", 16), given.pop("out"), given.pop("control")
    _require_count(count, "--count")
    source = given.pop("task")
    try:
        task = load_task(source, split="test", size=model.image_size)
    except NoSplitError:
        task = load_task(source, size=model.image_size)
    chosen = task.subset(spread_evenly(len(task), min(count, len(task))))
    names = [chosen.class_names[label] for label in chosen.labels.tolist()]
    conditions = annotate(kind, chosen.images.to(model.device), annotator=given.pop("annotator", None)).cpu()
    captions = given.pop("captions")
    prompts = _repeated(given.pop("prompts", captions(chosen.images, names)), len(chosen), "--count")
    images = sample_controlnet(model, prompts, conditions, **given)
    for place, pictures in ((out, images), (f"{out}_conditions", 2 * conditions - 1)):
        print(*write_pictures(place, pictures, chosen.labels.tolist()), sep="\n")


def _repeated(values: Sequence[Any], count: int, flag: str) -> list[Any]:
    """`count` values, taken in turn; `flag` is where the count comes from."""
    if not values:
        raise ValueError("there is nothing to draw: give --prompts")
    _require_count(count, flag)
    return [values[place % len(values)] for place in range(count)]


def _require_count(count: int, flag: str) -> None:
    if not 1 <= count <= MOST_PICTURES:
        raise ValueError(f"{flag} must be between 1 and {MOST_PICTURES:,}, got {count}")


def merge(given: dict[str, Any]) -> None:
    """Write a model's adapter into its weights: a folder that stock diffusers reads."""
    from ..models.adapters.apply import merge_adapter

    out = user_path(given["out"])
    is_ours(out)  # whatever is in it is not
    model, rows = _model(given["model"], "cpu", given.get("adapter"))
    merge_adapter(model).save(out)
    print(f"{out}: {model.name}, its adapter merged")
    if names := [model.label_names[row] for row in rows if model.label_names]:
        print("its own classes:", shlex.join(["difftuning", "sample", "--model", str(out), "--labels", *names]))


def evaluate(given: dict[str, Any]) -> None:
    """Print the scores of pictures against a reference as JSON."""
    from ..data.tasks import load_task
    from ..evaluation import metrics
    from ..models.pretrained import checked_device

    size, device = given.pop("size", None), checked_device(_device(given))
    images = load_task(given.pop("images"), size=size)
    reference = load_task(given.pop("reference"), split=given.pop("split"), size=size)
    print(json.dumps(metrics.evaluate(images, reference, device=device, **given), indent=1))


def study(given: dict[str, Any]) -> None:
    """Run a study, or list them."""
    from ..studies.grid import select_cells, studies
    from ..studies.runner import run_study

    known, name = studies(), given.get("name")
    if name is None:
        if "only" in given:
            raise ValueError("--only picks runs of one study: put its NAME before it")
        print("\n".join(f"{key}: {len(cells)} runs" for key, cells in known.items()))
        return
    require_choice("study", name, known)
    cells = select_cells(known[name], given.get("only", []))
    folder = user_path(given.get("folder", f"runs/studies/{name}"))
    results = given.get("results", folder / f"{name}.csv")
    print(run_study(cells, folder=folder, results=results, processes=given.get("processes", 1)))


def _device(given: dict[str, Any]) -> str:
    """The device asked for, else this process's GPU (models/pretrained.py, `checked_device`), else the CPU."""
    import torch

    return given.pop("device", "cuda" if torch.cuda.is_available() else "cpu")


def _model(source: str, device: str, adapter: str | None = None) -> tuple[Pretrained, list[int]]:
    """A model, with an adapter put on it, and the label rows of its classes (of the task's, where it was fine-tuned)."""
    from ..models.loading import load_adapter, load_pretrained
    from ..support.files import read_json
    from ..training.fine_tuned import RESULT, load_fine_tuned

    if adapter is not None:
        base, _ = _model(source, device)
        model, run = load_adapter(base, adapter), user_path(adapter) / RESULT
        if run.is_file():
            return model, read_json(run)["rows"]
        rows = list(range(len(model.label_names)))
        return model, rows[base.first_free_label :] or rows  # of the classes that came with it
    if (user_path(source) / RESULT).is_file():
        tuned = load_fine_tuned(source, device=device)
        return tuned.model, tuned.rows.tolist()
    model = load_pretrained(source, device=device)
    return model, list(range(len(model.label_names)))


def _autoencoder(source: str) -> Any:
    """An `AutoencoderKL` by itself, or the one of a whole model."""
    import torch
    from diffusers import AutoencoderKL

    from ..models.loading import load_component, load_pretrained

    if (user_path(source) / "config.json").is_file():
        return load_component(AutoencoderKL, user_path(source), torch.float32)
    return load_pretrained(source).autoencoder
