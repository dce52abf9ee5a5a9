"""The feature net: what it promises of any weights, how it is trained, and the shipped one."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from difftuning.features import FeatureNet, accuracy, augment, load_feature_net, save_feature_net, to_grey, train_feature_net
from difftuning.files import DamagedFileError, data_folder, read_json
from difftuning.metrics import evaluate, extract

SCRIPT = Path(__file__).resolve().parents[1] / "data" / "build" / "make_features.py"
SMALL = {"widths": (8, 8, 16), "depths": (1, 1, 1)}


def shapes(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Upright bars, lying bars and squares at random places: (n, 32, 32) uint8 with labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (n,), generator=generator)
    images = torch.zeros(n, 32, 32, dtype=torch.uint8)
    for image, label in zip(images, labels):
        row, column = torch.randint(2, 12, (2,), generator=generator).tolist()
        height, width = [(18, 3), (3, 18), (14, 14)][label]
        image[row : row + height, column : column + width] = 230
    return images, labels


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    accuracies = train_feature_net(
        *shapes(600), 3, folder=folder, heldout={"shapes": shapes(200, seed=1)}, epochs=4, batch_size=32, progress=False, **SMALL
    )
    return folder, accuracies


def test_training_learns_shapes_and_reports_the_held_out_accuracy_of_the_file_it_wrote(trained):
    folder, accuracies = trained
    assert accuracies["shapes"] > 0.95
    assert accuracies["shapes"] == accuracy(load_feature_net(folder), *shapes(200, seed=1))


def test_features_are_centred_at_mean_variance_one_over_the_training_images(trained):
    features = load_feature_net(trained[0])(to_grey(shapes(600)[0]))
    assert features.mean(0).abs().max() < 0.01
    assert float(features.var(0, correction=0).mean()) == pytest.approx(1, abs=0.01)


def test_the_same_seed_gives_the_same_net(tmp_path):
    nets = []
    for name, seed in ("a", 0), ("b", 0), ("c", 1):
        train_feature_net(*shapes(64), 3, folder=tmp_path / name, heldout={}, epochs=1, seed=seed, progress=False, **SMALL)
        nets.append(load_feature_net(tmp_path / name).project.weight)
    assert torch.equal(nets[0], nets[1]) and not torch.equal(nets[0], nets[2])


def test_training_leaves_the_global_random_state_alone(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_feature_net(*shapes(32), 3, folder=tmp_path, heldout={}, epochs=1, progress=False, **SMALL)
    assert torch.equal(torch.rand(3), expected)


def test_a_saved_net_comes_back_in_half_precision(tmp_path):
    net = FeatureNet(5, **SMALL).eval()
    save_feature_net(net, tmp_path)
    images = torch.rand(4, 3, 32, 32) * 2 - 1
    again = load_feature_net(tmp_path)
    assert not again.training and again.project.weight.dtype == torch.float32
    assert torch.allclose(again(images), net(images), atol=5e-3)
    size = (tmp_path / "model.safetensors").stat().st_size
    assert size < 2.2 * sum(weight.numel() for weight in net.parameters()) + 4096


def test_a_damaged_file_is_refused_by_name(tmp_path):
    save_feature_net(FeatureNet(5, **SMALL), tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(DamagedFileError, match="model.safetensors"):
        load_feature_net(tmp_path)


def test_every_image_is_treated_alone():
    net = FeatureNet(5).eval()
    images = torch.rand(6, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        alone = torch.cat([net(image[None]) for image in images])
        assert torch.allclose(net(images), alone, atol=1e-5)


def test_the_net_is_smooth():
    net = FeatureNet(5, **SMALL).double().eval()
    images = (torch.rand(2, 3, 32, 32, dtype=torch.float64) * 2 - 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: net(x)[:, :2], images, fast_mode=True)


def test_grey_in_one_or_three_channels_is_the_same_picture():
    net = FeatureNet(5).eval()
    grey = torch.rand(2, 1, 32, 32) * 2 - 1
    assert torch.allclose(net(grey.expand(-1, 3, -1, -1)), net(grey), atol=1e-5)


def test_the_shipped_size_is_small_and_has_at_most_64_features():
    net = FeatureNet(420)
    assert 0.2e6 < sum(weight.numel() for weight in net.parameters()) < 0.6e6
    assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 64)
    assert net.logits(torch.zeros(1, 3, 32, 32)).shape == (1, 420)


def test_an_image_of_another_size_is_refused_with_the_fix():
    with pytest.raises(ValueError, match=r"\(N, 3, 32, 32\), got \(2, 3, 64, 64\): resize them to 32x32"):
        FeatureNet(5)(torch.zeros(2, 3, 64, 64))


def test_labels_out_of_range_and_empty_sets_are_refused(tmp_path):
    images, labels = shapes(8)
    with pytest.raises(ValueError, match="do not fit 2 classes"):
        train_feature_net(images, torch.full_like(labels, 2), 2, folder=tmp_path, heldout={})
    with pytest.raises(ValueError, match="0 images"):
        train_feature_net(images[:0], labels[:0], 3, folder=tmp_path, heldout={})
    with pytest.raises(ValueError, match="uint8 images are grey"):
        train_feature_net(images[:, None].expand(-1, 3, -1, -1), labels, 3, folder=tmp_path, heldout={})


def test_augmentation_moves_by_two_pixels_at_most_and_stays_mild():
    images = torch.full((400, 1, 32, 32), -1.0)
    images[:, :, 16, 16] = 1.0
    moved = augment(images, generator=torch.Generator().manual_seed(0))
    assert moved.shape == images.shape
    peak = moved.flatten(1).argmax(1)
    rows, columns = peak // 32 - 16, peak % 32 - 16
    assert set(rows.tolist()) == set(columns.tolist()) == {-2, -1, 0, 1, 2}
    assert float((moved[:, :, :8] + 1).square().mean().sqrt()) < 0.1  # noise on empty ground


# The script that makes the shipped net


def world(folder: Path) -> None:
    images, labels = (x.numpy() for x in shapes(120))
    np.savez(
        folder / "source_full.npz", train_images=images, train_labels=labels, train_kinds=np.array(["bar"] * 120),
        heldout_images=images[:40], heldout_labels=labels[:40], heldout_kinds=np.array(["bar", "box"] * 20),
    )  # fmt: skip
    (folder / "tasks").mkdir()
    for name in "boxes", "bars":
        splits = {f"{split}_images": images[:30] for split in ("train", "validation")}
        splits |= {f"{split}_labels": labels[:30] for split in ("train", "validation")}
        np.savez(folder / "tasks" / f"{name}.npz", **splits, test_images=np.full((9, 32, 32), 77, np.uint8), test_labels=np.zeros(9, int))


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("make_features", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_script_gives_every_set_its_own_classes_and_opens_no_test_split(script, tmp_path):
    world(tmp_path)
    (images, labels), heldout, sets = script.gather(tmp_path / "source_full.npz", tmp_path / "tasks", repeat=4)
    assert len(images) == len(labels) == 120 + 2 * 4 * 30
    assert sorted(set(labels.tolist())) == list(range(9))
    assert [(line["set"], line["first_class"]) for line in sets] == [("source", 0), ("bars/train", 3), ("boxes/train", 6)]
    assert set(heldout) == {"source", "source/bar", "source/box", "bars/validation", "boxes/validation"}
    for part in [images, *(pair[0] for pair in heldout.values())]:
        assert not (part == 77).any()


def test_the_script_writes_the_net_and_a_card_that_names_its_training_data(script, tmp_path, capsys):
    world(tmp_path)
    script.main([
        "--source", str(tmp_path / "source_full.npz"), "--tasks", str(tmp_path / "tasks"), "--folder", str(tmp_path / "out"),
        "--epochs", "1", "--repeat", "1", "--threads", str(torch.get_num_threads()),
    ])  # fmt: skip
    assert load_feature_net(tmp_path / "out").config["num_classes"] == 9
    card = read_json(tmp_path / "out" / "card.json")
    assert [line["set"] for line in card["trained_on"]] == ["source", "bars/train", "boxes/train"]
    assert set(card["accuracy"]) >= {"source", "bars/validation"}
    assert "bars/validation" in capsys.readouterr().out


# The shipped net


@pytest.fixture
def shipped():
    try:
        folder = data_folder() / "models" / "features"
    except FileNotFoundError:
        pytest.skip("the tiny world is not built yet")
    if not folder.is_dir():
        pytest.skip("data/models/features is not built yet")
    return folder


def test_the_shipped_net_tells_the_world_apart(shipped):
    card = read_json(shipped / "card.json")
    assert card["accuracy"]["source"] > 0.3
    assert not any("test" in line["set"] for line in card["trained_on"])


def test_the_shipped_net_scores_a_set_against_itself_perfectly_and_damage_as_damage(shipped):
    images = to_grey(shapes(60)[0]).expand(-1, 3, -1, -1)
    assert extract(images).shape == (60, load_feature_net().config["num_features"])
    itself, noisy = evaluate(images, images), evaluate((images + 0.5 * torch.randn_like(images)).clamp(-1, 1), images)
    assert itself["features"] == "tiny"
    assert itself["fid"] < 1e-6 and itself["precision"] == itself["recall"] == 1
    assert noisy["fid"] > itself["fid"] and noisy["kid"] > itself["kid"]


def test_the_shipped_net_takes_32x32_only(shipped):
    with pytest.raises(ValueError, match=r"\(N, 3, 32, 32\)"):
        evaluate(torch.zeros(8, 3, 64, 64), torch.zeros(8, 3, 64, 64))
