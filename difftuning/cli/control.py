"""The flags of a ControlNet: which go together, and what they tell the functions."""

from __future__ import annotations

from typing import Any, Callable

from ..support.files import read_json
from ..support.names import user_path
from ..support.options import require_choice
from ..support.settings import typed
from .parser import CONTROL_OPTIONS, CONTROLNET_OPTIONS


def control_options(options: dict[str, str]) -> dict[str, Any]:
    """What `fine_tune_controlnet` is told beside its settings; nothing without --control."""
    if "control" not in options:
        if alone := next((name for name in CONTROLNET_OPTIONS if name in options), None):
            raise ValueError(f"--{alone.replace('_', '-')} is an option of a ControlNet: give --control")
        return {}
    if "bank_control" in options and "bank" not in options:
        raise ValueError("--bank-control is of a bank's pictures: give --bank")
    given = {name: options[name] for name in ("annotator", "bank_control") if name in options}
    if "channels" in options:
        given["channels"] = [typed("channels", "int", text) for text in options["channels"].split(",")]
    return {"kind": options["control"], "captions": chosen_captions(options)} | given


def require_control_flags(given: dict[str, Any]) -> None:
    """ValueError where flags of `sample` do not go together."""
    if ("control" in given) != ("task" in given):
        raise ValueError("--control and --task go together: a kind of condition, and the pictures to find it in")
    if "control" not in given and (alone := next((name for name in ("controlnet", *CONTROL_OPTIONS) if name in given), None)):
        raise ValueError(f"--{alone} goes with --control and --task: there must be conditions to draw after")
    if "prompts" in given and {"captions", "called"} & given.keys():
        raise ValueError("--prompts takes the captions' place: leave --captions and --called out")
    if "control" in given and {"guide", "labels"} & given.keys():
        raise ValueError("--control goes with --prompts, not with --guide or --labels")


def require_trained_kind(model: str, kind: str) -> None:
    """ValueError where `model` is the folder of a run that trained its ControlNet for another kind of condition."""
    from ..data.conditions import KINDS
    from ..training.run import RECORD

    record = user_path(model) / RECORD
    trained = read_json(record).get("conditions", "").partition(" ")[0] if record.is_file() else kind
    if trained in KINDS and trained != kind:
        raise ValueError(f"the ControlNet in {model} was trained for {trained}: give --control {trained}, not {kind}")


def chosen_captions(options: dict[str, Any]) -> Callable:
    """How pictures are captioned, by --captions and --called, which are taken out."""
    from ..data.captions import CAPTIONS, CaptionAs

    kind, called = options.pop("captions", "measured"), options.pop("called", None)
    require_choice("captions", kind, CAPTIONS)
    if called is None:
        return CAPTIONS[kind]
    if kind != "measured":
        raise ValueError(f"--called gives measured captions another name, --captions {kind} takes the classes' own: give one of them")
    return CaptionAs(called)
