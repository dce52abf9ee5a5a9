import pytest
import torch

from difftuning.chain import chain_tenths, loss_ratio, timestep_losses


def test_timestep_losses_equal_a_loop_over_single_pictures(small_model):
    images = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    labels = torch.tensor([0, 1, 2, 3, small_model.null_label])
    timesteps = [0, 40, 700]
    losses = timestep_losses(small_model, images, labels, timesteps, seed=3, batch_size=2)
    from difftuning.objective import seeded_generator

    for t, loss in zip(timesteps, losses):
        noise = torch.randn(5, *small_model.latent_shape, generator=seeded_generator(3, "timestep loss", t))
        a = small_model.diffusion.alphas_cumprod[t]
        errors = []
        for image, label, eps in zip(images, labels, noise):
            x_t = a.sqrt().float() * small_model.encode(image[None])[0] + (1 - a).sqrt().float() * eps
            with torch.no_grad():
                predicted = small_model.denoiser(x_t[None], torch.tensor([t]), label[None])[0, : len(eps)]
            errors.append(((predicted - eps) ** 2).mean())
        assert float(loss) == pytest.approx(float(torch.stack(errors).mean()), rel=1e-4)


def test_the_loss_ratio_of_a_model_to_itself_is_one(small_model):
    images, labels = torch.zeros(3, 3, 32, 32), torch.tensor([0, 1, 2])
    result = loss_ratio(small_model, small_model, images, labels, [5, 500])
    assert result["ratio"].tolist() == [1, 1] and result["timesteps"].tolist() == [5, 500]
    assert torch.equal(result["before"], result["after"])


def test_a_worse_model_has_a_loss_ratio_above_one(small_model):
    """The ratio is the second model's loss over the first's: one whose noise is far off has forgotten."""
    worse = small_model.with_denoiser(small_model.copy_denoiser())
    with torch.no_grad():
        worse.denoiser.transformer.proj_out_2.bias += 1000
    result = loss_ratio(small_model, worse, torch.zeros(4, 3, 32, 32), torch.zeros(4), [10, 900])
    assert (result["ratio"] > 10).all() and (result["after"] > 1e5).all()


def test_tenths_cover_the_chain_evenly():
    tenths = chain_tenths(1000, each=4)
    assert tenths.shape == (10, 4)
    assert ((tenths // 100) == torch.arange(10)[:, None]).all()
    assert tenths.double().mean() == pytest.approx(499.5, abs=1)


def test_labels_and_images_must_match_in_number(small_model):
    with pytest.raises(ValueError, match="got 2 labels and 3 images"):
        timestep_losses(small_model, torch.zeros(3, 3, 32, 32), torch.tensor([0, 1]), [1])
