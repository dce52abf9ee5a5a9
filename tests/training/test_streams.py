"""What the method trains on: how the batch is split, at which t, with which labels and weights."""

from __future__ import annotations

import pytest
import torch

from difftuning.config import DiffTuningConfig
from difftuning.diffusion.timestep_weights import reconsolidation_weight, retention_weight
from difftuning.training.label_rows import require_open_rows
from difftuning.training.streams import split_batch, timestep_sampling
from small import small_task
from tests.training.helpers import streams_of


@pytest.mark.parametrize("batch, share, split", [
    (32, 0.2, (26, 6)), (64, 0.2, (52, 12)), (100, 0.29, (71, 29)), (5, 0.2, (4, 1)), (15, 0.2, (12, 3)), (2, 0.5, (1, 1)), (3, 0.99, (1, 2)),
])  # fmt: skip
def test_the_global_batch_is_split_by_the_share_rounded_down(bank, batch, share, split):
    config = DiffTuningConfig(steps=1, batch_size=batch, bank_share=share)
    assert split_batch(config, bank) == split
    assert split_batch(config, None) == (batch, 0)


def test_the_defaults_are_the_published_ones(pretrained, task, bank):
    target, retained = streams_of(pretrained, task, bank)
    ranks = torch.arange(1, 1001, dtype=torch.float64)
    assert torch.allclose(target.timestep_distribution, ranks / ranks.sum()) and torch.allclose(
        retained.timestep_distribution, (1001 - ranks) / ranks.sum()
    )
    assert (target.weight, retained.weight) == (1.0, 0.1) and (target.batch, retained.batch) == (26, 6)
    assert (target.label_drop, retained.label_drop) == (0.1, 0.0)
    assert bool((retained.labels == pretrained.null_label).all())
    config = DiffTuningConfig(steps=1)
    assert (config.learning_rate, config.weight_decay, config.ema_decay) == (1e-4, 0.0, 0.9999)


def test_bank_pictures_may_keep_their_own_labels(pretrained, task, bank):
    _, retained = streams_of(pretrained, task, bank, bank_labels="own")
    assert torch.equal(retained.labels, bank.labels) and retained.label_drop == 0.1
    with pytest.raises(ValueError, match="use label_rows='free'"):
        require_open_rows(bank, DiffTuningConfig(steps=1, bank_labels="own"), torch.arange(3))


def test_flips_are_taken_where_the_task_allows_them_and_never_else(pretrained, bank):
    with_flips, _ = streams_of(pretrained, small_task(flip=True), bank)
    without, _ = streams_of(pretrained, small_task(), bank)
    images = small_task().images
    assert torch.allclose(with_flips.mirrored.x_0, pretrained.encode(images.flip(-1)), atol=1e-5) and without.mirrored is None


def test_the_families_give_the_distributions_and_weights_they_state():
    t = torch.arange(1000)
    paper = DiffTuningConfig(steps=1, family="paper", reconsolidation_power=2.0, retention_power=0.5)
    for role, weight in (("reconsolidation", reconsolidation_weight(t, 1000, 2.0)), ("retention", retention_weight(t, 1000, 0.5))):
        drawn, importance = timestep_sampling(paper, 1000, role)
        assert torch.allclose(drawn, weight.double() / weight.double().sum()) and importance is None
    weighted = DiffTuningConfig(steps=1, family="paper", reconsolidation_power=2.0, weighted=True)
    drawn, importance = timestep_sampling(weighted, 1000, "reconsolidation")
    assert torch.allclose(drawn, torch.full((1000,), 1e-3).double()) and torch.allclose(importance, (t.double() / 1000) ** 2)
    drawn, _ = timestep_sampling(DiffTuningConfig(steps=1, family="threshold", retention_power=0.3), 1000, "retention")
    assert torch.allclose(drawn, (t < 300).double() / 300)
    soft, _ = timestep_sampling(DiffTuningConfig(steps=1, family="sigmoid", reconsolidation_power=0.5), 1000, "reconsolidation")
    assert float(soft[0]) < 1e-3 * float(soft[999]) and bool((soft.diff() >= 0).all())


def test_sampling_and_weighting_of_the_official_family_expect_the_same_loss(pretrained, task, bank):
    """E over t ~ p of l equals E over uniform t of importance * l, for any l(t); both streams."""
    loss = torch.rand(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for sampled, weighted in zip(streams_of(pretrained, task, bank), streams_of(pretrained, task, bank, weighted=True)):
        assert float(sampled.timestep_distribution @ loss) == pytest.approx(
            float(weighted.timestep_distribution @ (weighted.timestep_weight * loss)), rel=1e-9
        )
        assert float(weighted.timestep_weight.mean()) == pytest.approx(1)


@pytest.mark.parametrize("weighting", ["none", "p2", "min_snr"])
def test_loss_weightings_are_those_of_their_papers(pretrained, task, bank, weighting):
    snr = pretrained.diffusion.snr
    expected = {"none": None, "p2": (1 + snr) ** -0.5, "min_snr": torch.minimum(snr, torch.tensor(5.0)) / snr}[weighting]
    for stream in streams_of(pretrained, task, bank, loss_weighting=weighting):
        assert stream.timestep_weight is None
        assert stream.eps_weight is None if expected is None else torch.allclose(stream.eps_weight, expected)
