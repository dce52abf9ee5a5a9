"""Stage 2: the tiny world's DiT, pre-trained on the package's one loop as long as the time box allows.

The first steps are timed; from them come the batch and the number of steps, so that the cool-down ends where the time
box ends.  What is run is an ordinary `PretrainingConfig`, which is kept beside the weights.
"""

from __future__ import annotations

import csv
import tarfile
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from difftuning.config import PretrainingConfig
from difftuning.data.npz import npz_pictures
from difftuning.data.pictures import write_pictures
from difftuning.data.tasks import Task, load_source, load_task, spread_evenly
from difftuning.diffusion.process import Diffusion
from difftuning.evaluation.chain_of_forgetting import losses_by_tenth
from difftuning.models.loading import load_component, load_pretrained
from difftuning.models.pretrained import Pretrained
from difftuning.sampling import sample
from difftuning.support.files import atomic_path, write_json
from difftuning.support.world import data_folder
from difftuning.training.draw_ahead import StreamAhead
from difftuning.training.label_rows import free_rows_as_null
from difftuning.training.loop import TrainingState, train
from difftuning.training.objective import Objective, Stream
from difftuning.training.pretrain import pretraining_stream, untrained
from paper_scale.measurements import Table
from paper_scale.speed import Clock, choose_speed

FULL_SOURCE = Path(__file__).resolve().parents[2] / "build-cache" / "source_full.npz"  # what `make assets` pre-trains on
COOLDOWN = 0.25  # of the steps
WARM_UP = 500  # steps, of the first tenth at most
PLANNED = 0.97  # of the time that is left: later steps never take just what the first ones took


@dataclass(frozen=True)
class Sizes:
    config: PretrainingConfig
    batches: tuple[int, ...]  # to choose from
    compiled_batch: int  # the one that compiled blocks are tried with: each one more would cost the compiler's time again
    probe_steps: int
    backend: str  # of torch.compile
    seconds: float  # of the whole stage but the imports before it
    reserve: float  # of them, for what comes after the last step
    held_out: int  # pictures that the loss is measured on
    source_pictures: int | None = None  # None: all there are
    most_steps: int | None = None


FULL = Sizes(
    # Twice the rate of the recipe for two cores, for a batch eight to sixteen times as large; clipped, as one bad step would cost the run.
    PretrainingConfig(learning_rate=2e-3, clip_norm=1.0, mixed_precision="bf16"),
    batches=(1024, 2048, 4096), compiled_batch=2048, probe_steps=40, backend="inductor", seconds=270, reserve=15, held_out=1000,
)  # fmt: skip
TOY = Sizes(
    PretrainingConfig(learning_rate=2e-3, clip_norm=1.0, mixed_precision="bf16", width=32, num_heads=2, num_layers=2),
    batches=(8, 16), compiled_batch=16, probe_steps=4, backend="eager", seconds=60, reserve=20, held_out=20, source_pictures=100, most_steps=12,
)  # fmt: skip


def run(sizes: Sizes, device: torch.device, table: Table, out: Path) -> None:
    clock = Clock(sizes.seconds)
    source, held_out = source_sets(sizes)
    table.add("training pictures", len(source))
    autoencoder = load_component(AutoencoderKL, data_folder() / "models" / "autoencoder", torch.float32)
    model = untrained(source, autoencoder, sizes.config, name="tiny").to(device)
    middle = model.diffusion.num_timesteps // 2
    table.add("signal-to-noise ratio, times the linear schedule's", float(model.diffusion.snr[middle] / Diffusion().snr[middle]))
    stream = pretraining_stream(model, source, sizes.config)
    table.add("ready to train after", clock.spent, "s")
    batch, seconds = choose_speed(
        model, stream, sizes.config, batches=sizes.batches, compiled_batch=sizes.compiled_batch, steps=sizes.probe_steps,
        backend=sizes.backend, table=table,
    )  # fmt: skip
    config = planned(sizes, batch, seconds, clock.left - sizes.reserve)
    watch = Watch(clock)
    problem = pretrain_watched(model, replace(stream, batch=batch), config, watch, table)
    model = model.with_denoiser(free_rows_as_null(watch.state.ema_model(), model.first_free_label))
    write_losses(out / "pretraining_loss.csv", watch.losses)
    card = {"steps_done": watch.state.step, "source": source.fingerprint, "encoder": model.encoder_fingerprint, "device": table.device}
    model = saved_in_half_precision(model, card | asdict(config), out / "model.tar", device)
    measure(model, held_out, table, out)
    table.add("time left", clock.left, "s")
    if problem:
        raise problem


def source_sets(sizes: Sizes) -> tuple[Task, Task]:
    """Training and held-out pictures: of the whole source where it has been built, else of the shipped sample."""
    if FULL_SOURCE.is_file() and sizes.source_pictures is None:
        pictures = npz_pictures(FULL_SOURCE, "heldout", None)
        source = load_task(FULL_SOURCE)
        held_out = Task(source.name, pictures.class_names, pictures.labels, pictures.reader, pictures.image_size, pictures.fingerprint)
    else:
        source, held_out = load_source(), load_source("heldout")
    if sizes.source_pictures is not None:
        source = source.subset(spread_evenly(len(source), sizes.source_pictures))
    return source, held_out.subset(spread_evenly(len(held_out), min(sizes.held_out, len(held_out))))


def planned(sizes: Sizes, batch: int, seconds: float, left: float) -> PretrainingConfig:
    """As many steps as the time left holds, with warm-up and cool-down in proportion."""
    steps = max(10, int(PLANNED * left / seconds))
    steps = min(steps, sizes.most_steps or steps)
    return replace(
        sizes.config, steps=steps, batch_size=batch, warmup_steps=min(WARM_UP, steps // 10), cooldown_steps=int(COOLDOWN * steps)
    )  # fmt: skip


class TimeIsUp(Exception):
    """The plan was wrong by more than the reserve."""


class Watch:
    """A callback that keeps the losses and the state of training, and ends it when the stage's time is up."""

    def __init__(self, clock: Clock):
        self.clock, self.began = clock, time.monotonic()
        self.state: TrainingState | None = None
        self.losses: list[tuple[int, float, float]] = []  # steps done, loss, seconds since the first

    def __call__(self, state: TrainingState) -> None:
        self.state = state
        self.losses.append((state.step, state.losses["source"], time.monotonic() - self.began))
        if self.clock.left < 0:
            raise TimeIsUp


def pretrain_watched(model: Pretrained, stream: Stream, config: PretrainingConfig, watch: Watch, table: Table) -> Exception | None:
    """Train; what has been learned is in `watch.state`, even where training ended early.  Returns why it failed, if it did."""
    stream = StreamAhead(stream, model.device)
    objective, problem = Objective([stream], model.diffusion, config.seed), None
    try:
        train(model.denoiser, objective, config, run=None, device=model.device, callbacks=[watch], progress=False)
    except TimeIsUp:
        table.add("ended early", f"after {watch.state.step} of {config.steps} steps, before the cool-down's end")
    except FloatingPointError as error:
        if watch.state is None:
            raise
        problem = error
    seconds = watch.losses[-1][2]
    table.add("steps", watch.state.step)
    table.add("batch", config.batch_size)
    table.add("pictures seen", watch.state.step * config.batch_size / 1e6, "million")
    table.add("training time", seconds, "s")
    table.add("speed", watch.state.step * config.batch_size / seconds, "pictures/s")
    table.add("waiting for pictures", stream.waited / seconds, "of the training time")
    return problem


def write_losses(path: Path, losses: list[tuple[int, float, float]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "source_loss", "seconds"])
        writer.writerows([step, f"{loss:.5f}", f"{seconds:.3f}"] for step, loss, seconds in losses)


def saved_in_half_precision(model: Pretrained, card: dict, path: Path, device: torch.device) -> Pretrained:
    """Pack the model's folder and its card into one file to carry home; the model as it comes back from there."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "tiny", dtype=torch.float16)
        write_json(Path(folder) / "tiny_card.json", card)
        with atomic_path(path) as scratch, tarfile.open(scratch, "w") as archive:
            for name in ("tiny", "tiny_card.json"):
                archive.add(Path(folder) / name, name)
        return load_pretrained(Path(folder) / "tiny", device=device)


def measure(model: Pretrained, held_out: Task, table: Table, out: Path) -> None:
    """The loss on held-out pictures in each tenth of the chain, and 64 samples to look at."""
    losses = losses_by_tenth(model, held_out.images, held_out.labels)
    for number, loss in enumerate(losses.tolist(), 1):
        table.add(f"held-out loss, tenth {number}", loss)
    labels = spread_evenly(len(model.label_names), 64)
    write_pictures(out / "samples", sample(model, labels, steps=25, guidance=1.5, seed=0), labels)
