"""Presets of ResNet: the spaces of the papers, and ours for small images."""

from dataclasses import replace

from nasbench.supernet.families.resnet.spec import (
    BasicStage,
    BottleneckStage,
    ResNetSpec,
    StemSpec,
)
from nasbench.supernet.layers import round_channels


def _tiny() -> ResNetSpec:
    """For 8x8 grey images such as scikit-learn's digits: 3 * (9 + 81)^3 architectures."""
    rows = (("stage1", (6, 10, 16), 1), ("stage2", (12, 20, 32), 2), ("stage3", (24, 40, 64), 2))
    stages = tuple(
        BasicStage(name=name, widths=widths, depths=(1, 2), stride=stride)
        for name, widths, stride in rows
    )
    stem = StemSpec(widths=(6, 10, 16))
    return ResNetSpec(stem=stem, stages=stages, in_channels=1, image_size=8, num_classes=10)


def _fashion() -> ResNetSpec:
    """For 28x28 grey images such as Fashion-MNIST: bottlenecks, 2 * (2 * (3 + 9 + 27))^3."""
    rows = (("stage1", (48, 64)), ("stage2", (96, 128)), ("stage3", (192, 256)))
    stages = tuple(
        BottleneckStage(
            name=name,
            widths=widths,
            depths=(1, 2, 3),
            expansion_ratios=(0.125, 0.25, 0.375),
            stride=2,
        )
        for name, widths in rows
    )
    stem = StemSpec(widths=(16, 24))
    return ResNetSpec(stem=stem, stages=stages, in_channels=1, image_size=28, num_classes=10)


def _cifar(num_layers: int, first_stride: int = 1) -> ResNetSpec:
    """The space of TAS on the ResNet for CIFAR with that many layers, 6n + 2.

    Every convolution has int(.3 c), int(.4 c) ... int(.9 c) or c channels, where c are those of
    the original network; a stage keeps one, three, five ... or all of its n blocks, or any number
    of them up to three. So there are 8 * (sum of 64^d over a stage's depths d)^3 architectures.
    """
    num_blocks = (num_layers - 2) // 6
    odd_or_all = {*range(1, num_blocks, 2), num_blocks}
    depths = (1, 2, 3) if num_blocks == 3 else tuple(sorted(odd_or_all))

    def widths(channels: int) -> tuple[int, ...]:
        return tuple(channels * tenths // 10 for tenths in range(3, 11))

    stages = tuple(
        BasicStage(name=f"stage{number}", widths=widths(channels), depths=depths, stride=stride)
        for number, (channels, stride) in enumerate(((16, first_stride), (32, 2), (64, 2)), 1)
    )
    stem = StemSpec(widths=widths(16))
    return ResNetSpec(stem=stem, stages=stages, in_channels=3, image_size=32, num_classes=10)


def _fashion_basic() -> ResNetSpec:
    """TAS's kind of space for 28x28 grey images such as Fashion-MNIST: two blocks a stage.

    All stages have a stride of 2, which makes it four times cheaper than a ResNet for CIFAR.
    """
    return replace(_cifar(14, first_stride=2), in_channels=1, image_size=28)


def _once_for_all() -> ResNetSpec:
    """Once-for-all's space on ResNet-50: 2 * 2 * 3^5 * 117^3 * 1053 architectures.

    A stage has 2, 2, 4 or 2 blocks and up to two more; 117 = 3^2 + 3^3 + 3^4 counts the expansion
    ratios of the short stages, 1053 = 3^4 + 3^5 + 3^6 those of the long one. Widths are 0.65, 0.8
    and 1 times those of ResNet-50, rounded to eights.

    Once-for-all writes 3^29 genomes: 5 depths, 18 ratios and 6 width multipliers of three choices
    each. They name the architectures here, some several times: ratios of blocks that do not run
    matter nothing; of the stem's three depths two compute the same; and of its inner widths 0.65
    and 0.8 both round to 24 channels.
    """

    def widths(channels: int) -> tuple[int, ...]:
        return tuple(round_channels(channels * multiplier) for multiplier in (0.65, 0.8, 1.0))

    rows = ((256, 2, 1), (512, 2, 2), (1024, 4, 2), (2048, 2, 2))  # channels, least depth, stride
    stages = tuple(
        BottleneckStage(
            name=f"stage{number}",
            widths=widths(channels),
            depths=(depth, depth + 1, depth + 2),
            expansion_ratios=(0.2, 0.25, 0.35),
            stride=stride,
        )
        for number, (channels, depth, stride) in enumerate(rows, 1)
    )
    stem = StemSpec(widths=widths(64), inner_widths=(24, 32))
    return ResNetSpec(stem=stem, stages=stages, in_channels=3, image_size=224, num_classes=1000)


PRESETS = {
    "tiny": _tiny(),
    "fashion": _fashion(),
    "fashion_basic": _fashion_basic(),
    "ofa_resnet50": _once_for_all(),
    **{f"cifar_resnet{layers}": _cifar(layers) for layers in (20, 32, 44, 56, 110)},
}
"""Name -> specification."""
