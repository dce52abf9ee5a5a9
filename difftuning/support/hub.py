"""The hub of models and data sets: asked one quick question before its libraries, which go on asking for half a minute."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Sequence

from .files import one_line

PATIENCE = 4  # seconds for an answer


def is_hub_id(name: object) -> bool:
    """Whether a text can be an "owner/name" or "owner/name@revision"; a word without a slash is nobody's."""
    return isinstance(name, str) and re.fullmatch(r"\w[\w.-]*/\w[\w.-]*(@\w[\w./-]*)?", name) is not None


def split_revision(name: str) -> tuple[str, str | None]:
    """ "owner/name@revision" in its two parts; None for the main one."""
    name, _, revision = name.partition("@")
    return name, revision or None


def require_on_hub(name: str, kind: Literal["model", "dataset"], revision: str | None = None) -> None:
    """FileNotFoundError, within seconds, where the hub does not know `name` or cannot be reached."""
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:  # what an earlier download has left is used, and found without waiting
        return
    try:
        HfApi().repo_info(name, repo_type=kind, revision=revision, timeout=PATIENCE)
    except Exception as error:  # which HTTP library raises what depends on the version
        raise FileNotFoundError(
            f"the hub gave no {kind} {name!r} ({one_line(error)}); without a network, HF_HUB_OFFLINE=1 takes what was downloaded before"
        ) from error


def snapshot(model: str, files: Sequence[str], left_out: Sequence[str] = ()) -> Path:
    """The folder into which those files of a model on the hub, "owner/name" or "owner/name@revision", were downloaded; FileNotFoundError where there is none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    name, revision = split_revision(model)
    try:
        require_on_hub(name, "model", revision)
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(files), ignore_patterns=list(left_out)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise FileNotFoundError(f"no folder {model!r} here, and {one_line(error)}") from error
