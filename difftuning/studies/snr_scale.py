"""Which noise schedule meets the method's premise?  One run of plain fine-tuning on each task, read under several schedules.

    python -m difftuning.studies.snr_scale     # writes data/results/snr_scale.csv; ten ratios and a verdict for each scale

A denoiser is asked for a signal-to-noise ratio, whatever t a schedule gives it.  So a schedule with `scale` times the linear
one's SNR is judged on a model of another schedule, at the timesteps where the SNR is the same.  Fine-tuning itself drew t by
the model's own schedule: that part is not corrected for.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Sequence

import torch
from torch import Tensor

from ..config import DiffTuningConfig
from ..data.tasks import Task, load_task, spread_evenly
from ..diffusion.process import Diffusion
from ..evaluation.chain_of_forgetting import chain_tenths, timestep_losses
from ..models.loading import load_pretrained
from ..support.world import data_folder, world_version
from ..training.fine_tune import fine_tune
from .grid import LEARNING_RATES
from .premise import DEVELOPMENT, PICTURES, STEPS, judge
from .tables import Row, write_rows

if TYPE_CHECKING:
    from ..models.pretrained import Pretrained

SCALES = (1, 4, 8, 16, 32, 64)  # of the linear schedule's SNR
HELD_OUT = 200  # validation pictures


def timesteps_of_equal_snr(diffusion: Diffusion, scale: float, timesteps: Tensor) -> Tensor:
    """Where `diffusion` has the SNR that the linear schedule times `scale` has at `timesteps`; int64, of their shape.

    Beyond either end of the model's chain its last timestep stands in.
    """
    wanted = (scale * Diffusion().snr[timesteps]).log()
    own = diffusion.snr.log()
    return (wanted[..., None] - own).abs().argmin(-1)


def losses_by_scale(model: Pretrained, held_out: Task, labels: Tensor, scales: Sequence[float] = SCALES) -> dict[float, Tensor]:
    """The held-out loss under these labels in each tenth of the chain of every schedule; float64 (10,) each."""
    places = {scale: timesteps_of_equal_snr(model.diffusion, scale, chain_tenths(Diffusion().num_timesteps)) for scale in scales}
    asked = torch.cat([place.flatten() for place in places.values()]).unique()
    losses = timestep_losses(model, held_out.images, labels, asked)
    return {scale: losses[torch.searchsorted(asked, place)].mean(1) for scale, place in places.items()}


def main() -> None:
    """Tune plainly on both development tasks, print the ratios by scale and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=None, help="default: results/snr_scale.csv of the tiny world")
    given = parser.parse_args()
    pretrained, rows = load_pretrained("tiny"), list[Row]()
    for name in DEVELOPMENT:
        task, held_out = load_task(name).subset(range(PICTURES)), load_task(name, split="validation")
        held_out = held_out.subset(spread_evenly(len(held_out), HELD_OUT))
        before = losses_by_scale(pretrained, held_out, torch.full_like(held_out.labels, pretrained.null_label))
        with tempfile.TemporaryDirectory() as folder:
            for step in STEPS:  # the later ones go on where the first has ended
                config = DiffTuningConfig(steps=step, learning_rate=LEARNING_RATES["plain"], reconsolidation_power=0.0)
                tuned = fine_tune(pretrained, task, None, config, folder=folder)
                for scale, after in losses_by_scale(tuned.model, held_out, tuned.rows[held_out.labels]).items():
                    ratios = (after / before[scale]).tolist()
                    print(f"{name:9} {step:5} steps {scale:3} x  " + " ".join(f"{ratio:.2f}" for ratio in ratios), judge(ratios))
                    run = {"task": name, "step": step, "scale": scale, "world": world_version()}
                    rows += [run | {"tenth": tenth, "ratio": ratio} for tenth, ratio in enumerate(ratios, 1)]
    write_rows(given.table or data_folder() / "results" / "snr_scale.csv", rows)


if __name__ == "__main__":
    main()
