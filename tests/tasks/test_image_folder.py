"""Image folders: what is read, how it is cut, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from nasbench.errors import RequestError, WorkError
from nasbench.tasks import TASKS
from nasbench.tasks.image_folder import central_box, image_folder, random_box

CLASSES = ("ape", "bee", "cat")
SIDE = 8


def picture(seed, mode="RGB", size=(20, 14)):
    """Noise, another one for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.fixture
def root(tmp_path):
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        for label, name in enumerate(CLASSES):
            folder = tmp_path / "zoo" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                picture(len(split) * 100 + 10 * label + i).save(folder / f"{i}.png")
    return tmp_path


def zoo(root, **options):
    return image_folder(root, folder="zoo", image_size=SIDE, **options)


def only_image(root, name):
    """The one of ape's test images that a test has put there, as the network sees it."""
    task = zoo(root)
    index = task.labeled["test"].names.index(f"ape/{name}")
    return task.load("test", torch.tensor([index])).inputs[0][0]


def test_classes_are_the_folders(root):
    task = zoo(root)
    assert [len(split) for split in task.splits.values()] == [12, 6, 6]
    assert task.network_settings == {"num_classes": 3, "in_channels": 3, "image_size": SIDE}
    for split in task.labeled.values():
        for name, label in zip(split.names, split.labels.tolist(), strict=True):
            assert name.split("/")[0] == CLASSES[label]


def test_the_first_samples_are_of_several_classes(root):
    assert len(zoo(root).labeled["train"].labels[:5].unique()) > 1


def test_it_is_the_same_each_time_and_sees_a_changed_file(root):
    task, again = zoo(root), TASKS["image_folder"](root, folder="zoo", image_size=SIDE)
    assert task.digests() == again.digests()
    picture(0, size=(30, 30)).save(root / "zoo" / "val" / "bee" / "0.png")
    changed = zoo(root).digests()
    assert changed["validation"] != task.digests()["validation"]
    assert changed["train"] == task.digests()["train"]


def test_hidden_files_are_passed_over(root):
    digests = zoo(root).digests()
    (root / "zoo" / "train" / ".cache").mkdir()
    (root / "zoo" / "train" / "ape" / ".DS_Store").write_text("")
    assert zoo(root).digests() == digests


def test_evaluation_sees_the_center_in_minus_1_to_1(root):
    pixels = np.zeros((SIDE, 3 * SIDE, 3), dtype=np.uint8)
    pixels[:, SIDE : 2 * SIDE, 0] = 255
    Image.fromarray(pixels).save(root / "zoo" / "test" / "ape" / "wide.png")
    image = only_image(root, "wide.png")
    assert image.shape == (3, SIDE, SIDE)
    assert image[0].unique().tolist() == [1.0]
    assert image[1:].unique().tolist() == [-1.0]


def test_an_image_of_the_size_is_seen_as_it_is(root):
    original = picture(7, size=(SIDE, SIDE))
    original.save(root / "zoo" / "test" / "ape" / "same.png")
    expected = torch.from_numpy(np.array(original)).permute(2, 0, 1).float() * 2 / 255 - 1
    torch.testing.assert_close(only_image(root, "same.png"), expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_every_kind_of_8_bits_is_read_in_color_and_grey(root, mode):
    suffix = "jpg" if mode == "CMYK" else "png"
    picture(3, mode).save(root / "zoo" / "test" / "ape" / f"other.{suffix}")
    assert only_image(root, f"other.{suffix}").shape == (3, SIDE, SIDE)
    grey = zoo(root, channels=1)
    assert grey.network_settings["in_channels"] == 1
    images = grey.load("test", torch.arange(7)).inputs[0]
    assert images.shape == (7, 1, SIDE, SIDE)
    assert images.unique().numel() > 2


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(root, mode):
    if mode == "P":
        image = Image.new("P", (SIDE, SIDE), 0)
        image.putpalette([0, 0, 0] * 256)
        image.info["transparency"] = 0
    else:
        image = Image.new(mode, (SIDE, SIDE), (0,) * len(mode))
    image.save(root / "zoo" / "test" / "ape" / "clear.png")
    assert only_image(root, "clear.png").unique().tolist() == [1.0]


class TestTraining:
    def draws(self, task, seed=0):
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(12, task.num_draws, generator=generator, dtype=torch.float64)

    @pytest.mark.parametrize("mixup", [0.0, 0.4])
    def test_a_sample_does_not_depend_on_its_batch(self, root, mixup):
        task = zoo(root, mixup=mixup)
        indices, draws = torch.tensor([7, 0, 3, 11]), self.draws(task)[:4]
        together = task.load("train", indices, draws)
        for row in range(4):
            alone = task.load("train", indices[row : row + 1], draws[row : row + 1])
            assert torch.equal(alone.inputs[0][0], together.inputs[0][row])
            assert torch.equal(alone.targets[0], together.targets[row])

    def test_samples_follow_from_their_draws(self, root):
        task = zoo(root)
        indices = torch.arange(12)
        first, again, other = (
            task.load("train", indices, self.draws(task, seed)).inputs[0] for seed in (0, 0, 1)
        )
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert not torch.equal(first, task.load("train", indices).inputs[0])

    def test_mixed_labels_are_probabilities(self, root):
        task = zoo(root, mixup=0.4)
        mixed = task.load("train", torch.arange(12), self.draws(task))
        assert mixed.targets.shape == (12, 3)
        assert bool((mixed.targets >= 0).all())
        torch.testing.assert_close(mixed.targets.sum(1), torch.ones(12))
        assert bool(((mixed.targets > 0).sum(1) == 2).any())
        largest = mixed.targets.argmax(1)
        assert torch.equal(largest, task.labeled["train"].labels)

    def test_batches_are_the_same_in_parts(self, root):
        epoch = zoo(root).epoch(6, seed=0, epoch=0)
        assert [epoch.num_targets(batch) for batch in range(len(epoch))] == [6, 6]
        whole, parts = epoch.load(0), [epoch.load(0, part, 3) for part in range(3)]
        assert torch.equal(whole.inputs[0], torch.cat([part.inputs[0] for part in parts]))


BOXES = [
    random_box(60, 40, 0.25, draws) for draws in np.random.default_rng(0).random((2000, 4)).tolist()
]


class TestRandomBox:
    def test_lies_inside_of_the_image(self):
        corners = [random_box(60, 40, 1.0, [a, b, 1.0, 1.0]) for a in (0, 1) for b in (0, 0.5, 1)]
        for left, upper, right, lower in [*BOXES, *corners]:
            assert 0 <= left < right <= 60
            assert 0 <= upper < lower <= 40

    def test_has_the_least_area_and_side_ratio(self):
        ratios = [(right - left) / (lower - upper) for left, upper, right, lower in BOXES]
        areas = [(right - left) * (lower - upper) / 2400 for left, upper, right, lower in BOXES]
        assert min(ratios) >= 3 / 4 - 1e-9
        assert min(areas) >= 0.25 - 1e-9
        assert min(areas) < 0.26
        assert max(areas) > 0.8
        fitting = [area for area in areas if area < 0.5]  # which no side cuts
        assert np.mean(fitting) == pytest.approx(0.375, abs=0.01)

    def test_is_everywhere(self):
        lefts, uppers, rights, lowers = (np.array(edges) for edges in zip(*BOXES, strict=True))
        assert min(lefts) < 1
        assert max(rights) > 59
        assert min(uppers) < 1
        assert max(lowers) > 39


def test_the_central_box_is_a_square_in_the_middle():
    assert central_box(60, 40, 1.0) == (10, 0, 50, 40)
    assert central_box(40, 60, 0.5) == (10, 20, 30, 40)


class TestRefusal:
    def test_of_no_folder(self, root):
        with pytest.raises(RequestError, match=r"needs the folder '.*farm', which does not exist"):
            image_folder(root, folder="farm", image_size=SIDE)

    @pytest.mark.parametrize(("split", "name"), [("val", "validation"), ("test", "test")])
    def test_of_a_missing_split(self, root, split, name):
        (root / "zoo" / split).rename(root / "elsewhere")
        with pytest.raises(RequestError, match=f"zoo' has no folder '{name}'; task 'image_folder'"):
            zoo(root)

    def test_of_no_classes(self, root):
        (root / "zoo" / "train").rename(root / "elsewhere")
        (root / "zoo" / "train").mkdir()
        with pytest.raises(RequestError, match=r"train' has no folders, but needs one per class"):
            zoo(root)

    def test_of_a_class_that_train_lacks(self, root):
        (root / "zoo" / "val" / "bees").mkdir()
        with pytest.raises(
            RequestError, match=r"bees' is none of the 3 classes of train; did you mean 'bee'\?"
        ):
            zoo(root)

    @pytest.mark.parametrize("split", ["train", "val"])
    def test_of_an_empty_class(self, root, split):
        for path in (root / "zoo" / split / "bee").iterdir():
            path.unlink()
        with pytest.raises(RequestError, match=f"{split}' has no images of class 'bee'"):
            zoo(root)

    def test_of_a_class_that_validation_lacks(self, root):
        (root / "zoo" / "val" / "bee").rename(root / "elsewhere")
        with pytest.raises(RequestError, match="val' has no images of class 'bee'"):
            zoo(root)

    def test_of_a_file_of_another_name(self, root):
        (root / "zoo" / "train" / "ape" / "notes.txt").write_text("")
        with pytest.raises(
            RequestError, match=r"notes\.txt' is no image; their names end in \.bmp"
        ):
            zoo(root)

    @pytest.mark.parametrize("is_cut", [False, True])
    def test_of_a_file_that_is_no_image(self, root, is_cut):
        path = root / "zoo" / "train" / "ape" / "0.png"
        path.write_bytes(path.read_bytes()[:300] if is_cut else b"no image")
        task = zoo(root)
        with pytest.raises(WorkError, match=r"ape/0\.png' cannot be read as an image: "):
            task.load("train", torch.arange(12))

    def test_of_more_than_8_bits(self, root):
        pixels = np.full((SIDE, SIDE), 300, dtype=np.uint16)
        Image.fromarray(pixels).save(root / "zoo" / "test" / "ape" / "deep.png")
        with pytest.raises(WorkError, match="have the mode 'I;16', but 8 bits are possible"):
            only_image(root, "deep.png")

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"channels": 4}, "channels is 3, or 1 for grey, not 4"),
            ({"min_area": 0}, "min_area is a number above 0 and up to 1, not 0"),
            ({"min_area": "half"}, "min_area is a number above 0 and up to 1, not 'half'"),
            ({"center": 1.5}, "center is a number above 0 and up to 1, not 1.5"),
            ({"num_threads": 0}, "num_threads is a whole number from 1 up, not 0"),
        ],
    )
    def test_of_a_bad_option(self, root, options, said):
        with pytest.raises(RequestError, match=said):
            zoo(root, **options)

    @pytest.mark.parametrize("image_size", [0, 8.0, True])
    def test_of_a_bad_size(self, root, image_size):
        with pytest.raises(RequestError, match="image_size is a whole number from 1 up, not"):
            image_folder(root, folder="zoo", image_size=image_size)
