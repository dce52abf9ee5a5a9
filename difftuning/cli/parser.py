"""The commands' flags: of settings by their dataclasses, of the rest by hand."""

from __future__ import annotations

import argparse
from typing import NoReturn

from .. import __version__
from ..config import ControlNetConfig, DiffTuningConfig, PretrainingConfig
from ..models.adapters.options import ADAPTERS
from ..support.settings import Setting, metavar, settings_of
from ..training.regularizers import REGULARIZERS
from .methods import METHOD_SETTINGS, VALIDATION

MODEL_HELP = "'tiny', 'tiny-text-to-image', a folder of a pipeline, a folder of `difftuning train`, or a hub id"
ADAPTER_HELP = "to put on the model that it was trained on: of `difftuning train --adapter`, or what `save_adapter` wrote"
CONTROL_OPTIONS = {  # of `train` and `sample`
    "annotator": "folder or hub id of a transformers model that finds depth, normal or segmentation in photographs, such as "
    "Intel/dpt-large (default: the tiny, classical annotators)",
    "captions": "measured (default: the class's name and words for what can be measured in one object on an even ground) or "
    "names (the class's name alone, for photographs)",
    "called": "what measured captions call every picture (default: each by its class's name)",
}
CONTROLNET_OPTIONS = CONTROL_OPTIONS | {  # of `train`
    "bank_control": "what bank pictures are replayed under: their own conditions (own, default) or black ones (blank)",
    "channels": "of the condition's embedding, each after the first halves the picture (default: the published ones that fit the "
    "autoencoder, 16,32,96,256 for Stable Diffusion)",
}
TRAIN_OPTIONS = {
    "task": "name, folder of class folders, npz file or hub data set to adapt to; cropped to the model's size",
    "folder": "for checkpoints and result; the same command goes on where it stopped",
    "model": f"what to start from: {MODEL_HELP} (default: tiny; tiny-text-to-image with --control)",
    "bank": "folder of `difftuning bank`, or 'tiny' for the shipped one; without it, nothing is replayed",
    "control": "trains a ControlNet on a text-to-image model, for edge, sketch, segmentation, depth or normal",
    **{name: f"with --control: {text}" for name, text in CONTROLNET_OPTIONS.items()},
    "adapter": f"train a part of the weights, or new ones: {', '.join(ADAPTERS)} (default: train all)",
    "regularizer": f"hold the model near the pre-trained one: {', '.join(REGULARIZERS)} (default: none)",
    "early_stopping": f"end when the loss on these pictures no longer falls, with the best weights: '{VALIDATION}' (that split of the task), "
    "or a folder, npz file or data set with the same classes (default: train all steps)",
    "device": "such as cpu, cuda:1 or mps; default: a GPU if there is one",
}
TRAIN_SETTINGS = settings_of(DiffTuningConfig) | METHOD_SETTINGS
TRAIN_SETTINGS |= {
    name: TRAIN_SETTINGS[name]._replace(default=f"{TRAIN_SETTINGS[name].default}; with --control: {of_controlnet.default}")
    for name, of_controlnet in settings_of(ControlNetConfig).items()
    if of_controlnet.default != TRAIN_SETTINGS[name].default
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
PRETRAIN_SETTINGS = settings_of(PretrainingConfig)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (`{self.prog} --help` lists the flags)")


def build_parser() -> argparse.ArgumentParser:
    """Its results name the `command`, a function of commands.py, and its `parser`; what was not given is not among them."""
    parser = _Parser(prog="difftuning", description="Fine-tune diffusion models by Diff-Tuning.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"difftuning {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        # SUPPRESS: what is not given is not passed on, so that defaults stand in the functions alone
        made = commands.add_parser(name, help=text, description=text, argument_default=argparse.SUPPRESS, allow_abbrev=False)
        made.set_defaults(parser=made)
        return made

    pretraining = command("pretrain", "Train a DiT from nothing.")
    _add_settings(pretraining, PRETRAIN_OPTIONS, PRETRAIN_SETTINGS)

    bank = command("bank", "Sample a memory bank from a model; the same command finishes an interrupted one.")
    bank.add_argument("--folder", required=True, help="where the bank is kept")
    bank.add_argument("--size", type=int, help="number of samples (not with --repair)")
    bank.add_argument("--model", default="tiny", help=f"{MODEL_HELP} (default: tiny)")
    bank.add_argument("--prompts", metavar="FILE", help="a prompt on each line, taken in turn: for a text-to-image model")
    _add_sampling(bank)
    bank.add_argument("--shard-size", type=int, help="samples in a file")
    bank.add_argument("--reencode", action="store_true", help="go through 8-bit pictures, as the published code does")
    bank.add_argument("--mixed-precision", choices=("no", "bf16", "fp16"), help="half precision where that is enough (default: no)")
    bank.add_argument("--repair", action="store_true", help="sample missing and damaged shards of the finished bank again")

    training = command("train", "Fine-tune: with --bank by Diff-Tuning, without and at power 0 plainly.")
    _add_settings(training, TRAIN_OPTIONS, TRAIN_SETTINGS)
    training.add_argument("--no-resume", dest="resume", action="store_false", help="fail where the folder holds a run already")

    sampling = command("sample", "Draw pictures: OUT.png shows them, OUT.npz holds them.")
    sampling.add_argument("--model", help=f"{MODEL_HELP} (default: tiny; tiny-text-to-image with --control)")
    sampling.add_argument("--adapter", metavar="FOLDER", help=ADAPTER_HELP)
    sampling.add_argument("--labels", nargs="+", help="names or label rows, repeated up to --count (default: all classes)")
    sampling.add_argument("--prompts", nargs="+", help="in place of labels, for a text-to-image model; each a quoted sentence")
    sampling.add_argument("--control", metavar="KIND", help="draw after the conditions of this kind found in the pictures of --task")
    sampling.add_argument("--task", help="where --control finds conditions, and captions where there are no --prompts (its test split)")
    for name, text in CONTROL_OPTIONS.items():
        sampling.add_argument(f"--{name}", help=f"with --control: {text}")
    sampling.add_argument(
        "--controlnet", help="beside --model: 'tiny-edge-diff-tuning', 'tiny-edge-plain', a folder of a ControlNetModel or a hub id"
    )
    sampling.add_argument("--count", type=int, help="number of pictures (default: one for each label)")
    sampling.add_argument("--batch-size", type=int, help="pictures that are drawn at the same time (default: 250)")
    sampling.add_argument("--guide", help="model whose null branch guides (Domain Guidance: the pre-trained one)")
    sampling.add_argument("--out", default="samples", help="where to write, without a suffix (default: samples)")
    _add_sampling(sampling)

    merging = command("merge", "Write a model's adapter into its weights: OUT is a folder that stock diffusers reads.")
    merging.add_argument("model", help=MODEL_HELP)
    merging.add_argument("--adapter", metavar="FOLDER", help=ADAPTER_HELP)
    merging.add_argument("--out", required=True, help="a new folder")

    scoring = command("evaluate", "Compare pictures with a reference set; prints JSON.")
    scoring.add_argument("--images", required=True, help="npz file of `difftuning sample`, or a folder of class folders")
    scoring.add_argument("--reference", required=True, help="task, folder, npz file or hub data set")
    scoring.add_argument("--split", default="test", choices=("train", "validation", "test"), help="of the reference (default: test)")
    scoring.add_argument("--features", help="tiny (default), inception, or inception:WEIGHTS")
    scoring.add_argument("--size", type=int, help="crop and resize both to this many pixels")
    scoring.add_argument("--device", help=TRAIN_OPTIONS["device"])

    study = command("study", "Run the grid behind a result table; the same command does what is missing.")
    study.add_argument("name", nargs="?", help="which study; without it, the names are listed")
    study.add_argument(
        "--only", nargs="+", action="extend", metavar="COLUMN=VALUE", help="the runs with these values in their tables' columns, such "
        "as method=plain seed=0 seed=1 (default: all); what the table has is not run again until its rows are taken out of it and "
        "of those beside it"
    )  # fmt: skip
    study.add_argument("--folder", help="for checkpoints of the runs (default: runs/studies/NAME)")
    study.add_argument("--results", help="the table to add to, mark by mark (default: FOLDER/NAME.csv)")
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
        parser.add_argument(f"--{name.replace('_', '-')}", help=text)
    group = parser.add_argument_group("settings")
    for name, setting in settings.items():
        default = "needed" if setting.default is None else f"default: {setting.default}"
        text = (f"{setting.help}; {default}" if setting.help else default).replace("%", "%%")
        flag = f"--{name.replace('_', '-')}"
        if setting.annotation == "bool":
            group.add_argument(flag, dest=name, action=argparse.BooleanOptionalAction, help=text)
        else:
            group.add_argument(flag, dest=name, metavar=metavar(setting.annotation), help=text)
