"""What `make gpu` runs, on a card in toy sizes; skipped where there is none."""

import pytest
import torch

from difftuning.config import PretrainingConfig
from difftuning.training.pretrain import pretrain
from paper_scale import dit_xl, installation, pretraining
from paper_scale.measurements import Table, read_rows
from small import small_pretrained, small_task

pytestmark = [pytest.mark.paper_scale, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")]


@pytest.mark.parametrize("stage", [installation, pretraining, dit_xl], ids=lambda stage: stage.__name__.rpartition(".")[2])
def test_a_stage_runs_on_the_card(stage, tmp_path):
    stage.run(stage.TOY, torch.device("cuda:0"), Table(tmp_path / "gpu.csv", "stage", "card"), tmp_path)
    rows = read_rows(tmp_path / "gpu.csv")
    assert rows and not any(row["what"] == "blocks compiled" for row in rows)


def test_pretraining_draws_ahead_on_the_card_what_it_draws_on_the_cpu(tmp_path):
    config = PretrainingConfig(steps=4, width=32, num_heads=2, num_layers=1, num_labels=20, batch_size=8, warmup_steps=2)
    losses = {}
    for device in ("cpu", "cuda"):
        folder = tmp_path / device
        pretrain(small_task(), small_pretrained().autoencoder, config, folder=folder, device=device, progress=False)
        losses[device] = [float(line.split(",")[1]) for line in (folder / "history.csv").read_text().splitlines()[1:]]
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=0.01)
