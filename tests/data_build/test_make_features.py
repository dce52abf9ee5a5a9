"""The script that makes the feature net: how it trains, on what, and what it writes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from make_features import accuracy, augment, gather, main, save_feature_net, to_grey, train_feature_net

from difftuning.evaluation.feature_net import FeatureNet, load_feature_net
from difftuning.support.files import DamagedFileError, read_json
from small import shapes

SMALL = {"widths": (8, 8, 16), "depths": (1, 1, 1)}


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


# The script itself


def world(folder: Path) -> None:
    images, labels = (x.numpy() for x in shapes(120))
    np.savez(
        folder / "source_full.npz", train_images=images, train_labels=labels, train_kinds=np.array(["bar"] * 120),
        heldout_images=images[:40], heldout_labels=labels[:40], heldout_kinds=np.array(["bar", "box"] * 20),
        class_names=np.array(["bar", "box", "shoe"]),
    )  # fmt: skip
    (folder / "tasks").mkdir()
    for name in "boxes", "bars":
        splits = {f"{split}_images": images[:30] for split in ("train", "validation")}
        splits |= {f"{split}_labels": labels[:30] for split in ("train", "validation")}
        np.savez(folder / "tasks" / f"{name}.npz", **splits, test_images=np.full((9, 32, 32), 77, np.uint8), test_labels=np.zeros(9, int))


def test_the_script_gives_every_set_its_own_classes_and_opens_no_test_split(tmp_path):
    world(tmp_path)
    (images, labels), heldout, sets = gather(tmp_path / "source_full.npz", tmp_path / "tasks", pictures=115)  # four times 30 is nearest
    shoes = int((shapes(120)[1] == 2).sum())  # of a task's kind, and left out
    assert len(images) == len(labels) == 120 - shoes + 2 * 4 * 30 and shoes > 0
    assert sorted(set(labels.tolist())) == [0, 1, *range(3, 9)]
    assert [(line["set"], line["first_class"]) for line in sets] == [("source", 0), ("bars/train", 3), ("boxes/train", 6)]
    assert set(heldout) == {"source", "source/bar", "source/box", "bars/validation", "boxes/validation"}
    for part in [images, *(pair[0] for pair in heldout.values())]:
        assert not (part == 77).any()


def test_the_script_writes_the_net_and_a_card_that_names_its_training_data(tmp_path, capsys):
    world(tmp_path)
    main([
        "--source", str(tmp_path / "source_full.npz"), "--tasks", str(tmp_path / "tasks"), "--folder", str(tmp_path / "out"),
        "--epochs", "1", "--pictures", "1", "--threads", str(torch.get_num_threads()),
    ])  # fmt: skip
    assert load_feature_net(tmp_path / "out").config["num_classes"] == 9
    card = read_json(tmp_path / "out" / "card.json")
    assert [line["set"] for line in card["trained_on"]] == ["source", "bars/train", "boxes/train"]
    assert set(card["accuracy"]) >= {"source", "bars/validation"}
    assert "bars/validation" in capsys.readouterr().out
