"""`difftuning`, or `python -m difftuning`: the package's functions from a shell, nothing of its own.

Whatever needs torch is imported inside the commands, so that `--help` and mistakes are answered at once.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, NoReturn, Sequence

from . import __version__
from .config import DiffTuningConfig, PretrainingConfig
from .models.adapters import options as adapters
from .support.files import read_text
from .support.names import one_form, user_path
from .support.options import choose
from .support.settings import Setting, gather, metavar, settings_of, typed

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

    from .models.pretrained import Pretrained

MOST_PICTURES = 1_000_000  # that one call draws
TOO_LITTLE_MEMORY = "out of memory: lower batch_size, raise accumulation (train) or take fewer pictures at a time"
MODEL_HELP = "'tiny', 'tiny-text-to-image', a folder of a pipeline, a folder of `difftuning train`, or a hub id"
TRAIN_OPTIONS = {
    "task": "name, folder of class folders, npz file or hub data set to adapt to; cropped to the model's size",
    "folder": "for checkpoints and result; the same command goes on where it stopped",
    "model": "what to start from: 'tiny' (default; 'tiny-text-to-image' with --control), a folder of a pipeline or a hub id",
    "bank": "folder of `difftuning bank`, or 'tiny' for the shipped one; without it, nothing is replayed",
    "control": "trains a ControlNet on a text-to-image model, for edge, sketch, segmentation, depth or normal",
    "adapter": f"train a part of the weights, or new ones: {', '.join(adapters.ADAPTERS)} (default: train all)",
    "regularizer": "hold the model near the pre-trained one: l2_sp, ewc, distillation or prior_preservation (default: none)",
    "device": "such as cpu, cuda:1 or mps; default: a GPU if there is one",
}
METHOD_SETTINGS = adapters.settings() | {"regularizer_weight": Setting("float", "its own", "of the regularizer's term in the loss")}
PRETRAIN_OPTIONS = {
    "folder": TRAIN_OPTIONS["folder"],
    "source": "what to learn: a task, folder, npz file or hub data set (default: the tiny world's sample)",
    "size": "crop and resize the source to this many pixels (default: as they are; 256 for folders and hub data sets)",
    "autoencoder": "'tiny' (default), a folder of an AutoencoderKL or of a DiTPipeline",
    "name": "of the model (default: tiny)",
    "start": "model whose weights to begin with (default: none, from nothing)",
    "device": TRAIN_OPTIONS["device"],
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it went well, 2 with one line on stderr if its input is at fault."""
    usage = ""
    try:
        options = vars(_parser().parse_args(arguments))
        run, command = options.pop("run")
        usage = command.format_usage()
        run(options)
        return 0
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        return _failed(error, usage)
    except (MemoryError, RuntimeError) as error:
        from .support.files import DamagedFileError

        by_torch = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)  # of a GPU; of the machine
        if isinstance(error, MemoryError) or by_torch:
            return _failed(MemoryError(TOO_LITTLE_MEMORY), usage)
        if not isinstance(error, DamagedFileError):
            raise
        return _failed(error, usage)
    except KeyboardInterrupt:
        print("difftuning: interrupted; training, banks and studies go on with the same command", file=sys.stderr)
        return 130


def _failed(error: Exception, usage: str) -> int:
    message = " ".join(str(error).split()) or type(error).__name__
    print(f"difftuning: {_with_flags(message, usage)}", file=sys.stderr)
    return 2


def _with_flags(message: str, usage: str) -> str:
    """Python's arguments as this command's flags: "size=32" is "--size 32", "bank=None" is "no --bank"."""

    def flag(found: re.Match) -> str:
        name, value = f"--{found['name'].replace('_', '-')}", (found["value"] or "").strip("'\"")
        if not re.search(rf"{name}[ \]\n]", usage):
            return found[0]
        return f"no {name}" if value == "None" else f"{name} {value}".rstrip()

    return re.sub(r"""(?<![\w./=-])(?P<name>[a-z][a-z_]*)=(?P<value>'[^']*'|"[^"]*"|[\w.]*\w)?(?![\w/])""", flag, message)


# Flags --------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (`{self.prog} --help` lists the flags)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="difftuning", description="Fine-tune diffusion models by Diff-Tuning.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"difftuning {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)

    def command(name: str, run: Callable[[dict[str, Any]], None], text: str) -> argparse.ArgumentParser:
        # SUPPRESS: what is not given is not passed on, so that defaults stand in the functions alone
        made = commands.add_parser(name, help=text, description=text, argument_default=argparse.SUPPRESS, allow_abbrev=False)
        made.set_defaults(run=(run, made))
        return made

    pretraining = command("pretrain", _pretrain, "Train a DiT from nothing.")
    _add_settings(pretraining, PRETRAIN_OPTIONS, settings_of(PretrainingConfig))

    bank = command("bank", _bank, "Sample a memory bank from a model; the same command finishes an interrupted one.")
    bank.add_argument("--folder", required=True, help="where the bank is kept")
    bank.add_argument("--size", type=int, help="number of samples (not with --repair)")
    bank.add_argument("--model", default="tiny", help=f"{MODEL_HELP} (default: tiny)")
    bank.add_argument("--prompts", metavar="FILE", help="a prompt on each line, taken in turn: for a text-to-image model")
    _add_sampling(bank)
    bank.add_argument("--shard-size", type=int, help="samples in a file")
    bank.add_argument("--reencode", action="store_true", help="go through 8-bit pictures, as the published code does")
    bank.add_argument("--mixed-precision", choices=("no", "bf16", "fp16"), help="half precision where that is enough (default: no)")
    bank.add_argument("--repair", action="store_true", help="sample missing and damaged shards of the finished bank again")

    training = command("train", _train, "Fine-tune: with --bank by Diff-Tuning, without and at power 0 plainly.")
    _add_settings(training, TRAIN_OPTIONS, settings_of(DiffTuningConfig) | METHOD_SETTINGS)
    training.add_argument("--no-resume", dest="resume", action="store_false", help="fail where the folder holds a run already")

    sampling = command("sample", _sample, "Draw pictures: OUT.png shows them, OUT.npz holds them.")
    sampling.add_argument("--model", default="tiny", help=f"{MODEL_HELP} (default: tiny)")
    sampling.add_argument("--labels", nargs="+", help="names or label rows, repeated up to --count (default: all classes)")
    sampling.add_argument("--prompts", nargs="+", help="in place of labels, for a text-to-image model; each a quoted sentence")
    sampling.add_argument("--control", metavar="KIND", help="draw after the conditions of this kind found in the pictures of --task")
    sampling.add_argument("--task", help="where --control finds conditions, and captions where there are no --prompts (its test split)")
    sampling.add_argument("--count", type=int, help="number of pictures (default: one for each label)")
    sampling.add_argument("--guide", help="model whose null branch guides (Domain Guidance: the pre-trained one)")
    sampling.add_argument("--out", default="samples", help="where to write, without a suffix (default: samples)")
    _add_sampling(sampling)

    scoring = command("evaluate", _evaluate, "Compare pictures with a reference set; prints JSON.")
    scoring.add_argument("--images", required=True, help="npz file of `difftuning sample`, or a folder of class folders")
    scoring.add_argument("--reference", required=True, help="task, folder, npz file or hub data set")
    scoring.add_argument("--split", default="test", choices=("train", "validation", "test"), help="of the reference (default: test)")
    scoring.add_argument("--features", help="tiny (default), inception, or inception:WEIGHTS")
    scoring.add_argument("--size", type=int, help="crop and resize both to this many pixels")
    scoring.add_argument("--device", help=TRAIN_OPTIONS["device"])

    study = command("study", _study, "Run the grid behind a result table; the same command does what is missing.")
    study.add_argument("name", nargs="?", help="which study; without it, the names are listed")
    study.add_argument("--folder", help="for the rows of finished runs (default: runs/studies/NAME)")
    study.add_argument("--results", help="the table to write (default: FOLDER/NAME.csv)")
    study.add_argument("--processes", type=int, help="runs at the same time, one thread each (default: 1)")
    return parser


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, help="of the sampler (default: 50)")
    parser.add_argument("--sampler", help="ddim (default), ddpm or dpm++")
    parser.add_argument("--guidance", type=float, help="1 is none (default: 1.5)")
    parser.add_argument("--seed", type=int, help="default: 0")
    parser.add_argument("--device", help=TRAIN_OPTIONS["device"])


def _add_settings(parser: argparse.ArgumentParser, options: dict[str, str], settings: dict[str, Setting]) -> None:
    parser.add_argument("--config", metavar="FILE.toml", help="file of settings, named as the flags; flags win over it")
    for name, text in options.items():
        parser.add_argument(f"--{name}", help=text)
    group = parser.add_argument_group("settings")
    for name, setting in settings.items():
        default = "needed" if setting.default is None else f"default: {setting.default}"
        text = (f"{setting.help}; {default}" if setting.help else default).replace("%", "%%")
        flag = f"--{name.replace('_', '-')}"
        if setting.annotation == "bool":
            group.add_argument(flag, dest=name, action=argparse.BooleanOptionalAction, help=text)
        else:
            group.add_argument(flag, dest=name, metavar=metavar(setting.annotation), help=text)


# Commands -----------------------------------------------------------------------------------


def _pretrain(given: dict[str, Any]) -> None:
    options, settings = gather(given, PRETRAIN_OPTIONS, settings_of(PretrainingConfig))
    from .data.tasks import load_source, load_task
    from .training.pretrain import pretrain

    config = PretrainingConfig(**settings)
    autoencoder = _autoencoder(options.get("autoencoder", "tiny"))
    size = typed("size", "int", options["size"]) if "size" in options else None
    source = load_task(options["source"], size=size) if "source" in options else load_source(size=size)
    folder, device = options["folder"], _device(options)
    start = _model(options["start"], device)[0] if "start" in options else None
    pretrain(source, autoencoder, config, folder=folder, name=options.get("name", "tiny"), start=start, device=device)
    print(f"{folder}: the model is in {Path(folder) / 'model'}")


def _bank(given: dict[str, Any]) -> None:
    from .training.memory_bank import MemoryBank, repair_bank

    model, _ = _model(given.pop("model"), _device(given))
    if given.pop("repair", False):
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


def _train(given: dict[str, Any]) -> None:
    resume = given.pop("resume", True)
    options, settings = gather(given, TRAIN_OPTIONS, settings_of(DiffTuningConfig) | METHOD_SETTINGS)
    extra = {name: settings.pop(name) for name in METHOD_SETTINGS if name in settings}
    weight = extra.pop("regularizer_weight", None)
    adapter = _adapter(options.get("adapter"), extra)
    if adapter is not None and "control" in options:
        raise ValueError("--control trains a ControlNet beside the model, --adapter goes into it: give one of them")
    from .data.tasks import load_task
    from .models.adapters.apply import parameter_share
    from .support.world import data_folder
    from .training.fine_tune import fine_tune
    from .training.memory_bank import MemoryBank

    config = DiffTuningConfig(**settings)
    shipped = ("tiny-text-to-image", "bank_text_to_image") if "control" in options else ("tiny", "bank")
    model, _ = _model(options.get("model", shipped[0]), _device(options))
    task = load_task(options["task"], size=model.image_size)
    place = options.get("bank")
    bank = None if place is None else MemoryBank.load(data_folder() / shipped[1] if place == "tiny" else place)
    regularizer = _regularizer(options.get("regularizer"), weight)
    tune = partial(fine_tune, adapter=adapter)
    if "control" in options:
        from .training.controlnet import fine_tune_controlnet

        tune = partial(fine_tune_controlnet, kind=options["control"])
    result = tune(model, task, bank, config, folder=options["folder"], resume=resume, regularizer=regularizer)
    losses = ", ".join(f"{name} {result.history[name].iloc[-1]:.4f}" for name in result.history.dropna(axis=1) if name.endswith("_loss"))
    share = "" if adapter is None else f", {100 * parameter_share(result.model.denoiser):.2f} % of the weights trained"
    print(f"{options['folder']}: {len(result.history)} steps, last {losses}{share}")


def _adapter(name: str | None, options: dict[str, Any]) -> adapters.Adapter | None:
    if name is None and options:
        raise ValueError(f"--{next(iter(options))} is an option of an adapter: give --adapter")
    choose("adapter", name, adapters.ADAPTERS)
    return None if name is None else adapters.with_options(name, options)


def _regularizer(name: str | None, weight: float | None) -> Any:
    from .training.regularizers import REGULARIZERS

    if name is None and weight is not None:
        raise ValueError("--regularizer-weight is of a regularizer: give --regularizer")
    regularizer = choose("regularizer", name, REGULARIZERS)
    return regularizer if weight is None else replace(regularizer, weight=weight)


def _sample(given: dict[str, Any]) -> None:
    from .data.pictures import picture_files, write_pictures
    from .sampling import sample

    picture_files(given["out"])
    if ("control" in given) != ("task" in given):
        raise ValueError("--control and --task go together: a kind of condition, and the pictures to find it in")
    if "control" in given and {"guide", "labels"} & given.keys():
        raise ValueError("--control goes with --prompts, not with --guide or --labels")
    device = _device(given)
    model, rows = _model(given.pop("model"), device)
    if "guide" in given:
        given["guide"] = _model(given["guide"], device)[0]
    if "control" in given:
        _sample_control(model, given)
        return
    if "prompts" in given:
        rows = given.pop("prompts")
    if "labels" in given:
        names = [one_form(name) for name in model.label_names]
        rows = [names.index(one_form(label)) if one_form(label) in names else _row(label) for label in given.pop("labels")]
    labels, out = _repeated(rows, given.pop("count", len(rows)), "--count"), given.pop("out")
    images = sample(model, labels, **given)
    for path in write_pictures(out, images, [rows.index(label) for label in labels] if model.takes_prompts else labels):
        print(path)


def _sample_control(model: Pretrained, given: dict[str, Any]) -> None:
    """Pictures after the conditions found in a task's test pictures; the conditions lie beside them as OUT_conditions."""
    from .data.captions import caption_pictures
    from .data.conditions import annotate
    from .data.pictures import write_pictures
    from .data.tasks import load_task, spread_evenly
    from .sampling import sample_controlnet

    count, out, kind = given.pop("count", 16), given.pop("out"), given.pop("control")
    _require_count(count, "--count")
    task = load_task(given.pop("task"), split="test", size=model.image_size)
    chosen = task.subset(spread_evenly(len(task), min(count, len(task))))
    names = [chosen.class_names[label] for label in chosen.labels.tolist()]
    conditions = annotate(kind, chosen.images)
    prompts = _repeated(given.pop("prompts", caption_pictures(chosen.images, names)), len(chosen), "--count")
    images = sample_controlnet(model, prompts, conditions, **given)
    for place, pictures in ((out, images), (f"{out}_conditions", 2 * conditions - 1)):
        for path in write_pictures(place, pictures, chosen.labels.tolist()):
            print(path)


def _repeated(values: Sequence[Any], count: int, flag: str) -> list[Any]:
    """`count` values, taken in turn; `flag` is where the count comes from."""
    if not values:
        raise ValueError("there is nothing to draw: give --prompts")
    _require_count(count, flag)
    return [values[place % len(values)] for place in range(count)]


def _require_count(count: int, flag: str) -> None:
    if not 1 <= count <= MOST_PICTURES:
        raise ValueError(f"{flag} must be between 1 and {MOST_PICTURES:,}, got {count}")


def _evaluate(given: dict[str, Any]) -> None:
    from .data.tasks import load_task
    from .evaluation.metrics import evaluate
    from .models.pretrained import checked_device

    size, device = given.pop("size", None), checked_device(_device(given))
    images = load_task(given.pop("images"), size=size)
    reference = load_task(given.pop("reference"), split=given.pop("split"), size=size)
    print(json.dumps(evaluate(images.images.to(device), reference.images.to(device), **given), indent=1))


def _study(given: dict[str, Any]) -> None:
    from .studies.grid import run_study, studies

    known, name = studies(), given.get("name")
    if name is None:
        print("\n".join(f"{key}: {len(cells)} runs" for key, cells in known.items()))
        return
    if name not in known:
        raise ValueError(f"unknown study {name!r}: choose one of {', '.join(known)}")
    folder = user_path(given.get("folder", f"runs/studies/{name}"))
    results = given.get("results", folder / f"{name}.csv")
    print(run_study(known[name], folder=folder, results=results, processes=given.get("processes", 1)))


def _device(given: dict[str, Any]) -> str:
    """The device asked for, else this process's GPU, else the CPU."""
    import torch

    from .support.processes import local_rank

    default = f"cuda:{local_rank()}" if torch.cuda.is_available() else "cpu"
    return given.pop("device", default)


def _model(source: str, device: str) -> tuple[Pretrained, list[int]]:
    """A model, and the label rows of its classes (of the task's, where it was fine-tuned)."""
    from .models.loading import load_pretrained
    from .training.fine_tuned import load_fine_tuned

    if (user_path(source) / "result.json").is_file():
        tuned = load_fine_tuned(source, device=device)
        return tuned.model, tuned.rows.tolist()
    model = load_pretrained(source, device=device)
    return model, list(range(len(model.label_names)))


def _autoencoder(source: str) -> AutoencoderKL:
    """An `AutoencoderKL` by itself, or the one of a whole model."""
    import torch
    from diffusers import AutoencoderKL

    from .models.loading import load_component, load_pretrained

    if (user_path(source) / "config.json").is_file():
        return load_component(AutoencoderKL, user_path(source), torch.float32)
    return load_pretrained(source).autoencoder


def _row(label: str) -> int:
    if not label.isdecimal():
        raise ValueError(f"unknown label {label!r}: give a number or one of the model's label names")
    return int(label)
