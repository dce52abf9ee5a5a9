"""Another model, another condition, another term of the loss: through the public function, without a second loop."""

from __future__ import annotations

import torch
from diffusers import DDPMPipeline, UNet2DModel
from torch import nn

from difftuning import DiffTuningConfig, Pretrained, fine_tune, sample
from difftuning.training.objective import Penalty
from small import small_pretrained, small_task


class Toy(nn.Module):
    """A denoiser that hears no label, but sees a picture beside x_t; it has learned no variance."""

    latent_shape, null_label, learned_variance, label_table, conventions = (4, 4, 4), 12, False, None, {}

    def __init__(self):
        super().__init__()
        self.unet = UNet2DModel(4, 5, 4, block_out_channels=(8, 8), down_block_types=["DownBlock2D"] * 2, up_block_types=["UpBlock2D"] * 2,
                                layers_per_block=1, norm_num_groups=4)  # fmt: skip

    def forward(self, x_t, t, labels, picture):
        return self.unet(torch.cat([x_t, picture], dim=1), t).sample

    def pipeline(self, autoencoder, scheduler, dtype):
        return DDPMPipeline(self.unet, scheduler)


def test_a_toy_denoiser_with_a_picture_condition_and_an_l2_penalty_trains_through_fine_tune(tmp_path):
    base, task = small_pretrained(), small_task(size=24)
    model = Pretrained(Toy(), base.autoencoder, base.scheduler, label_names=["any"])
    condition = lambda images, names: {"picture": images.mean(1, keepdim=True)[:, :, ::2, ::2]}  # noqa: E731
    norm = lambda module, batch: batch.share * sum(weight.square().sum() for weight in module.parameters())  # noqa: E731
    config = DiffTuningConfig(steps=60, learning_rate=3e-3, reconsolidation_power=0, accumulation=2, seed=1)
    tuned = fine_tune(
        model, task, config=config, folder=tmp_path, conditions=condition, regularizer=lambda run: [Penalty("norm", norm, 1e-2)]
    )
    losses = tuned.history
    assert losses.target_loss[-10:].mean() < 0.9 * losses.target_loss[:10].mean()
    assert losses.norm_loss.iloc[-1] < losses.norm_loss.iloc[0]
    told = condition(task.images[:3], None)
    drawn, other = (sample(tuned.model, [0, 0, 0], steps=4, conditions=c) for c in (told, {"picture": -told["picture"]}))
    assert drawn.shape == (3, 3, 8, 8) and not torch.allclose(drawn, other)
