"""`difftuning`, or `python -m difftuning`: the package's functions from a shell, nothing of its own.

Whatever needs torch is imported inside the commands, so that `--help` and mistakes are answered at once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, NoReturn, Sequence

from . import __version__
from .settings import Setting, gather, metavar, pretraining_settings, training_settings, typed

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

    from .pretrained import Pretrained

TOO_LITTLE_MEMORY = "out of memory: lower batch_size, raise accumulation (train) or take fewer pictures at a time"
MODEL_HELP = "'tiny', a DiTPipeline folder, a folder of `difftuning train`, or a hub id"
TRAIN_OPTIONS = {
    "task": "name, folder of class folders, npz file or hub data set to adapt to; cropped to the model's size",
    "folder": "for checkpoints and result; the same command goes on where it stopped",
    "model": "what to start from: 'tiny' (default), a DiTPipeline folder or a hub id",
    "bank": "folder of `difftuning bank`, or 'tiny' for the shipped one; without it, nothing is replayed",
    "device": "such as cpu, cuda:1 or mps; default: a GPU if there is one",
}
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
    try:
        options = vars(_parser().parse_args(arguments))
        options.pop("run")(options)
        return 0
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        return _failed(error)
    except (MemoryError, RuntimeError) as error:
        from .files import DamagedFileError

        by_torch = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)  # of a GPU; of the machine
        if isinstance(error, MemoryError) or by_torch:
            return _failed(MemoryError(TOO_LITTLE_MEMORY))
        if not isinstance(error, DamagedFileError):
            raise
        return _failed(error)
    except KeyboardInterrupt:
        print("difftuning: interrupted; training, banks and studies go on with the same command", file=sys.stderr)
        return 130


def _failed(error: Exception) -> int:
    print(f"difftuning: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
    return 2


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
        made.set_defaults(run=run)
        return made

    pretraining = command("pretrain", _pretrain, "Train a DiT from nothing.")
    _add_settings(pretraining, PRETRAIN_OPTIONS, pretraining_settings())

    bank = command("bank", _bank, "Sample a memory bank from a model; the same command finishes an interrupted one.")
    bank.add_argument("--folder", required=True, help="where the bank is kept")
    bank.add_argument("--size", type=int, help="number of samples (not with --repair)")
    bank.add_argument("--model", default="tiny", help=f"{MODEL_HELP} (default: tiny)")
    _add_sampling(bank)
    bank.add_argument("--shard-size", type=int, help="samples in a file")
    bank.add_argument("--reencode", action="store_true", help="go through 8-bit pictures, as the published code does")
    bank.add_argument("--repair", action="store_true", help="sample missing and damaged shards of the finished bank again")

    training = command("train", _train, "Fine-tune: with --bank by Diff-Tuning, without and at power 0 plainly.")
    _add_settings(training, TRAIN_OPTIONS, training_settings())
    training.add_argument("--no-resume", dest="resume", action="store_false", help="fail where the folder holds a run already")

    sampling = command("sample", _sample, "Draw pictures: OUT.png shows them, OUT.npz holds them.")
    sampling.add_argument("--model", default="tiny", help=f"{MODEL_HELP} (default: tiny)")
    sampling.add_argument("--labels", nargs="+", help="names or label rows, repeated up to --count (default: all classes)")
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
    options, settings = gather(given, PRETRAIN_OPTIONS, pretraining_settings())
    from .data import load_source, load_task
    from .pretraining import PretrainingConfig, pretrain

    config = PretrainingConfig(**settings)
    autoencoder = _autoencoder(options.get("autoencoder", "tiny"))
    size = typed("size", "int", options["size"]) if "size" in options else None
    source = load_task(options["source"], size=size) if "source" in options else load_source(size=size)
    folder, device = options["folder"], _device(options)
    start = _model(options["start"], device)[0] if "start" in options else None
    pretrain(source, autoencoder, config, folder=folder, name=options.get("name", "tiny"), start=start, device=device)
    print(f"{folder}: the model is in {Path(folder) / 'model'}")


def _bank(given: dict[str, Any]) -> None:
    from .memory import MemoryBank, repair_bank

    model, _ = _model(given.pop("model"), _device(given))
    if given.pop("repair", False):
        repaired = repair_bank(given["folder"], model)
        print(f"{given['folder']}: {', '.join(repaired) or 'nothing'} sampled again")
        return
    if "size" not in given:
        raise ValueError("--size is needed: the number of samples")
    bank = MemoryBank.sample(model, given.pop("size"), **given)
    print(f"{bank.folder}: {len(bank)} samples of {model.name}")


def _train(given: dict[str, Any]) -> None:
    resume = given.pop("resume", True)
    options, settings = gather(given, TRAIN_OPTIONS, training_settings())
    from .data import load_task
    from .files import data_folder
    from .finetuning import DiffTuningConfig, fine_tune
    from .memory import MemoryBank

    config = DiffTuningConfig(**settings)
    model, _ = _model(options.get("model", "tiny"), _device(options))
    task = load_task(options["task"], size=model.image_size)
    place = options.get("bank")
    bank = None if place is None else MemoryBank.load(data_folder() / "bank" if place == "tiny" else place)
    result = fine_tune(model, task, bank, config, folder=options["folder"], resume=resume)
    losses = ", ".join(f"{name} {result.history[name].iloc[-1]:.4f}" for name in result.history.dropna(axis=1) if name.endswith("_loss"))
    print(f"{options['folder']}: {len(result.history)} steps, last {losses}")


def _sample(given: dict[str, Any]) -> None:
    from .pictures import picture_files, write_pictures
    from .sampling import sample

    picture_files(given["out"])
    device = _device(given)
    model, rows = _model(given.pop("model"), device)
    if "guide" in given:
        given["guide"] = _model(given["guide"], device)[0]
    if "labels" in given:
        rows = [model.label_names.index(label) if label in model.label_names else _row(label) for label in given.pop("labels")]
    count = given.pop("count", len(rows))
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    labels, out = [rows[i % len(rows)] for i in range(count)], given.pop("out")
    images = sample(model, labels, progress=True, **given)
    for path in write_pictures(out, images, labels):
        print(path)


def _evaluate(given: dict[str, Any]) -> None:
    from .data import load_task
    from .metrics import evaluate
    from .pretrained import checked_device

    size, device = given.pop("size", None), checked_device(_device(given))
    images = load_task(given.pop("images"), size=size)
    reference = load_task(given.pop("reference"), split=given.pop("split"), size=size)
    print(json.dumps(evaluate(images.images.to(device), reference.images.to(device), **given), indent=1))


def _study(given: dict[str, Any]) -> None:
    from .study import run_study, studies

    known, name = studies(), given.get("name")
    if name is None:
        print("\n".join(f"{key}: {len(cells)} runs" for key, cells in known.items()))
        return
    if name not in known:
        raise ValueError(f"unknown study {name!r}: choose one of {', '.join(known)}")
    folder = Path(given.get("folder", f"runs/studies/{name}"))
    results = given.get("results", folder / f"{name}.csv")
    print(run_study(known[name], folder=folder, results=results, processes=given.get("processes", 1)))


def _device(given: dict[str, Any]) -> str:
    """The device asked for, else this process's GPU, else the CPU."""
    import torch

    default = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    return given.pop("device", default)


def _model(source: str, device: str) -> tuple[Pretrained, list[int]]:
    """A model, and the label rows of its classes (of the task's, where it was fine-tuned)."""
    from .finetuning import load_fine_tuned
    from .loading import load_pretrained

    if (Path(source) / "result.json").is_file():
        tuned = load_fine_tuned(source, device=device)
        return tuned.model, tuned.rows.tolist()
    model = load_pretrained(source, device=device)
    return model, list(range(len(model.label_names)))


def _autoencoder(source: str) -> AutoencoderKL:
    """An `AutoencoderKL` by itself, or the one of a whole model."""
    import torch
    from diffusers import AutoencoderKL

    from .loading import load_component, load_pretrained

    if (Path(source) / "config.json").is_file():
        return load_component(AutoencoderKL, Path(source), torch.float32)
    return load_pretrained(source).autoencoder


def _row(label: str) -> int:
    if not label.isdecimal():
        raise ValueError(f"unknown label {label!r}: give a number or one of the model's label names")
    return int(label)
