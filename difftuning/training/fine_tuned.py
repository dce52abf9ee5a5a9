"""`FineTuned`: what fine-tuning gives, in memory and in a folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..config import DiffTuningConfig
from ..models.adapters.apply import merge_adapter
from ..models.loading import load_pretrained
from ..models.pretrained import CARD, Pretrained, checked_device, require_own_model
from ..sampling import label_rows
from ..support.files import (
    DamagedFileError,
    atomic_path,
    checksum_list,
    is_ours,
    read_json,
    read_text,
    sha256,
    verify,
    write_json,
    write_text,
)
from ..support.names import user_path
from ..support.surroundings import undisturbed
from .checkpoints import list_checkpoints
from .history import parse_history
from .run import RECORD

if TYPE_CHECKING:
    import pandas

RESULT = "result.json"
CHECKED = ("history.csv", f"model/{CARD}")  # the card has the checksums of the model's other files


@dataclass
class FineTuned:
    """A fine-tuned model: `model` carries the averaged (EMA) weights and is a `Pretrained` like any other.

    `rows[k]` is the label that stands for the task's class k (the null label where the model has no label table); names work as labels too.
    """

    model: Pretrained
    history: pandas.DataFrame  # step, target_loss, bank_loss (nan without a bank), seconds
    config: DiffTuningConfig
    rows: Tensor  # int64 (K,)

    def merge(self) -> FineTuned:
        """The same result with its adapter written into a copy of the weights: stock diffusers reads what that saves.

        ValueError where there is none, or one that adds more than a change of weights (AdaptFormer, VPT).
        """
        return replace(self, model=merge_adapter(self.model.with_denoiser(self.model.copy_denoiser())))

    def __repr__(self) -> str:
        return f"<FineTuned {self.model.name}: {len(self.history)} steps, {len(self.rows)} classes>"

    @undisturbed
    def save(self, folder: str | Path) -> None:
        """Write model/ (`Pretrained.save`), history.csv and result.json, replacing only what a fine-tuning has left."""
        folder = user_path(folder)
        of_tuning = (folder / RECORD).is_file() and "task" in read_json(folder / RECORD)
        is_ours(folder, RESULT, f"model/{CARD}", *([RECORD] if of_tuning else []))
        require_own_model(folder / "model")
        targets = [folder / name for name in (RESULT, "history.csv", "model")]
        with atomic_path(targets[0]) as result, atomic_path(targets[1]) as history, atomic_path(targets[2]) as model:  # all or none
            write_text(history, self.history.to_csv(index=False, na_rep="nan", lineterminator="\n"))
            self.model.save(model)
            files = dict(zip(CHECKED, (sha256(history), sha256(model / CARD))))
            write_json(result, {"config": asdict(self.config), "rows": self.rows.tolist(), "sha256": files}, sealed=True)


@undisturbed
def load_fine_tuned(folder: str | Path, *, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> FineTuned:
    """Open what `fine_tune` left in its folder, or what `FineTuned.save` wrote; `device` and `dtype` as in `load_pretrained`."""
    device = None if device is None else checked_device(device)
    folder = user_path(folder).absolute()  # model/ must never be taken for a hub id
    if not (folder / RESULT).is_file():
        raise FileNotFoundError(f"no finished fine-tuning in {folder}: it has no {RESULT}")
    again = ", or train again as before, which writes it anew" if list_checkpoints(folder) else ""
    try:
        record = read_json(folder / RESULT)
        config, rows = DiffTuningConfig(**record["config"]), torch.tensor(record["rows"], dtype=torch.int64)
        files = checksum_list(folder / RESULT, {name: record["sha256"][name] for name in CHECKED})
        for name in verify(folder, files):
            raise DamagedFileError(f"{folder / name} is missing, cut off or altered; restore it")
        model = load_pretrained(folder / "model", device=device, dtype=dtype)
        label_rows(model, rows)
    except (DamagedFileError, FileNotFoundError) as error:
        raise DamagedFileError(f"{error}{again}") from error
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DamagedFileError(f"{folder / RESULT} does not describe a fine-tuning ({error}); restore it{again}") from error
    return FineTuned(model, parse_history(read_text(folder / "history.csv")), config, rows)
