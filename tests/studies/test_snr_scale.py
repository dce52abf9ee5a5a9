import torch

from difftuning.diffusion.process import Diffusion, scale_snr
from difftuning.evaluation.chain_of_forgetting import chain_tenths, loss_ratio
from difftuning.studies.snr_scale import losses_by_scale, timesteps_of_equal_snr
from small import small_pretrained, small_task


def test_the_models_own_scale_asks_for_its_own_timesteps():
    matched = Diffusion(scale_snr(Diffusion().betas, 16))
    timesteps = torch.tensor([[0, 17], [400, 999]])
    assert timesteps_of_equal_snr(matched, 16, timesteps).equal(timesteps)
    assert timesteps_of_equal_snr(Diffusion(), 1, timesteps).equal(timesteps)


def test_a_larger_scale_asks_for_the_timestep_that_hides_as_little():
    linear, matched = Diffusion(), Diffusion(scale_snr(Diffusion().betas, 16))
    place = timesteps_of_equal_snr(matched, 1, torch.tensor([200]))
    assert int(place) == min(range(1000), key=lambda t: abs(float(matched.snr[t].log() - linear.snr[200].log())))
    assert (
        int(timesteps_of_equal_snr(matched, 64, torch.tensor([500]))) < 500 < int(timesteps_of_equal_snr(matched, 4, torch.tensor([500])))
    )


def test_under_its_own_scale_the_ratios_are_the_loss_ratios_of_the_chain():
    before, task = small_pretrained(), small_task()
    after = small_pretrained(seed=1)
    labels = torch.zeros(len(task), dtype=torch.int64)
    nulls = torch.full_like(labels, before.null_label)
    found = losses_by_scale(after, task, labels, scales=(1,))[1] / losses_by_scale(before, task, nulls, scales=(1,))[1]
    times = chain_tenths(1000).flatten()
    losses = [loss_ratio(before, after, task.images, each, times)[name] for each, name in ((nulls, "before"), (labels, "after"))]
    expected = losses[1].reshape(10, -1).mean(1) / losses[0].reshape(10, -1).mean(1)
    torch.testing.assert_close(found, expected)
