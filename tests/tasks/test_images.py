"""Images in memory, their augmentation, and the tasks `digits` and `fashion_mnist`."""

import gzip
import pickle

import pytest
import torch

from nasbench.errors import RequestError
from nasbench.tasks import TASKS, Batch
from nasbench.tasks.images import Augmentation, ImageClassification, ImagesInMemory


@pytest.fixture(scope="module")
def digits():
    return TASKS["digits"](None)


def draws(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, Augmentation.NUM_DRAWS, dtype=torch.float64, generator=generator)


def with_test_split(task, labels):
    pixels = torch.zeros(len(labels), 1, 8, 8, dtype=torch.uint8)
    split = ImagesInMemory(pixels, torch.tensor(labels, dtype=torch.int64))
    return ImageClassification("digits", 10, {**task.labeled, "test": split})


def test_digits_are_stratified(digits):
    for split in digits.splits.values():
        counts = split.labels.bincount()
        assert counts.max() - counts.min() <= 0.05 * len(split)
    assert [len(s) for s in digits.splits.values()] == [1077, 360, 360]


def test_pixels_are_scaled_to_one(digits):
    (images,) = digits.load("train", torch.arange(1077)).inputs
    assert images.dtype == torch.float32
    assert images.min() == -1
    assert images.max() == 1


def test_processes_share_the_pixels(digits):
    split, buffers = digits.splits["train"], []
    message = pickle.dumps(split, protocol=5, buffer_callback=buffers.append)
    assert len(message) < 1000
    received = pickle.loads(message, buffers=[bytes(buffer.raw()) for buffer in buffers])
    assert torch.equal(received.pixels, split.pixels)
    assert received.digest() == split.digest()


def test_a_label_outside_the_classes_is_refused(digits):
    with pytest.raises(RequestError, match="labels from 0 to 10"):
        with_test_split(digits, [0, 10])


def test_an_empty_split_is_refused(digits):
    with pytest.raises(RequestError, match="test split of task 'digits' is empty"):
        with_test_split(digits, [])


def test_shifting_moves_each_image_by_at_most_a_pixel():
    images = torch.full((200, 1, 8, 8), -1.0)
    images[:, :, 4, 4] = 1.0
    shifted = Augmentation(shift=1).moved(images, draws(200))
    positions = shifted.flatten(1).argmax(dim=1)
    offsets = {(int(p) // 8 - 4, int(p) % 8 - 4) for p in positions}
    assert offsets == {(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)}
    assert torch.equal(shifted.sum(dim=(1, 2, 3)), images.sum(dim=(1, 2, 3)))


def test_flipping_mirrors_about_half():
    images = torch.arange(200 * 64.0).reshape(200, 1, 8, 8)
    flipped = Augmentation(flip=True).moved(images, draws(200))
    is_mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    assert torch.equal(flipped[~is_mirrored], images[~is_mirrored])
    assert 70 < is_mirrored.sum() < 130


def test_mixup_blends_images_as_it_blends_labels():
    pixels = torch.arange(10, dtype=torch.uint8).repeat_interleave(64).reshape(10, 1, 8, 8)
    split = ImagesInMemory(pixels, torch.arange(10), white=9)
    splits = {"train": split, "validation": split, "test": split}
    task = ImageClassification("digits", 10, splits, Augmentation(mixup=0.4))
    batch = task.load("train", torch.arange(10), draws(10))
    torch.testing.assert_close(batch.targets.sum(dim=1), torch.ones(10))
    own = batch.targets.gather(1, torch.arange(10)[:, None])
    assert (own >= 0.5 - 1e-6).all()
    assert (own < 1).any()
    expected = batch.targets @ (torch.arange(10.0) * 2 / 9 - 1)  # a pixel tells the label
    torch.testing.assert_close(batch.inputs[0][:, 0, 0, 0], expected)


@pytest.mark.parametrize(
    "wrong",
    [
        {"shift": -1},
        {"shift": 1.5},
        {"shift": 10**6},
        {"mixup": -0.1},
        {"mixup": "a"},
        {"mixup": float("nan")},
    ],
)
def test_a_bad_augmentation_is_refused(wrong):
    (name,) = wrong
    with pytest.raises(RequestError, match=f"{name} is a"):
        Augmentation(**wrong)


def test_evaluation_counts_what_is_right(digits):
    class Zero(torch.nn.Module):
        def forward(self, inputs):
            return torch.tensor([[100.0] + [0.0] * 9]).expand(len(inputs), 10)

    found = digits.evaluate(Zero(), "validation", batch_size=100)
    share = (digits.splits["validation"].labels == 0).double().mean()
    assert found["top1_accuracy"] == pytest.approx(share)
    assert found["top1_error"] == pytest.approx(1 - share)
    assert found["cross_entropy"] == pytest.approx(100 * (1 - share))
    some = digits.evaluate(Zero(), "validation", batch_size=100, num_samples=7)
    assert some["top1_accuracy"] in [n / 7 for n in range(8)]


class TestFashionMNIST:
    def write(self, folder, part, count, *, magic=8):
        images = bytes([0, 0, magic, 3]) + b"".join(n.to_bytes(4) for n in (count, 28, 28))
        labels = bytes([0, 0, magic, 1]) + count.to_bytes(4)
        content = bytes(i % 251 for i in range(count * 784))
        folder.mkdir(exist_ok=True)
        for name, data in (
            (f"{part}-images-idx3-ubyte.gz", images + content),
            (f"{part}-labels-idx1-ubyte.gz", labels + bytes(i % 10 for i in range(count))),
        ):
            (folder / name).write_bytes(gzip.compress(data, 1))

    def test_without_a_data_folder_it_says_how_to_name_one(self):
        with pytest.raises(RequestError, match=r"set NASBENCH_DATA or task\.data_dir"):
            TASKS["fashion_mnist"](None)

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(RequestError, match=r"'.*fashion-mnist', which does not exist"):
            TASKS["fashion_mnist"](tmp_path)
        (tmp_path / "fashion-mnist").mkdir()
        with pytest.raises(RequestError, match=r"there is no '.*train-images-idx3-ubyte\.gz'"):
            TASKS["fashion_mnist"](tmp_path)

    def test_a_damaged_file_is_named(self, tmp_path):
        folder = tmp_path / "fashion-mnist"
        self.write(folder, "train", 20, magic=9)
        with pytest.raises(RequestError, match="is no IDX file of 3 dimensions"):
            TASKS["fashion_mnist"](tmp_path)
        (folder / "train-images-idx3-ubyte.gz").write_bytes(b"not gzip")
        with pytest.raises(RequestError, match=r"cannot read '.*train-images-idx3-ubyte\.gz'"):
            TASKS["fashion_mnist"](tmp_path)

    @pytest.mark.data
    def test_the_public_files_give_the_documented_splits(self, data_dir):
        task = TASKS["fashion_mnist"](data_dir, train_size=20_000)
        assert [len(split) for split in task.splits.values()] == [20_000, 10_000, 10_000]
        assert task.network_settings == {"num_classes": 10, "in_channels": 1, "image_size": 28}
        assert task.splits["test"].labels.bincount().tolist() == [1000] * 10
        whole = TASKS["fashion_mnist"](data_dir)
        assert len(whole.splits["train"]) == 50_000
        assert torch.equal(whole.splits["train"].labels[:20_000], task.splits["train"].labels)
        assert whole.splits["validation"].digest() == task.splits["validation"].digest()
        with pytest.raises(RequestError, match="train_size is 1 to 50000"):
            TASKS["fashion_mnist"](data_dir, train_size=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_networks_compute_with_channels_last_on_the_cpu(channels):
    """One channel has both formats at once; what counts is how a convolution reads it."""
    images, tokens = torch.rand(2, channels, 8, 8), torch.zeros(2, 8, dtype=torch.int64)
    batch = Batch((images, tokens), torch.zeros(2, dtype=torch.int64)).to(torch.device("cpu"))
    features = torch.nn.Conv2d(channels, 4, 3)(batch.inputs[0])
    assert features.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch.inputs[0], images)
    assert torch.equal(batch.inputs[1], tokens)
