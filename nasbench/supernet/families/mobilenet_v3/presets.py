"""Presets of MobileNetV3: the spaces of the papers, and ours for small images."""

from nasbench.supernet.families.mobilenet_v3.spec import MobileNetV3Spec, StageSpec
from nasbench.supernet.layers import round_channels


def _tiny() -> MobileNetV3Spec:
    """For 8x8 grey images such as scikit-learn's digits; trains in seconds on one core.

    Images are at least 4x4 wherever there is a 7x7 kernel, so that all of the kernel matters.
    """
    rows = (  # name, widths, depths, stride
        ("stage1", (4, 8, 16), (1, 2), 1),
        ("stage2", (8, 16, 24), (1, 2, 3), 2),
        ("stage3", (8, 24, 40), (1, 2, 3), 1),
    )
    stages = tuple(
        StageSpec(
            name=name,
            widths=widths,
            depths=depths,
            kernel_sizes=(3, 5, 7),
            expansion_ratios=(1, 2, 3),
            stride=stride,
        )
        for name, widths, depths, stride in rows
    )
    return MobileNetV3Spec(
        stem_widths=(8,),
        stem_stride=1,
        stages=stages,
        final_widths=(64, 64, 64),
        feature_widths=(64,),
        in_channels=1,
        image_size=8,
        num_classes=10,
    )


def _once_for_all(width_multiplier: float) -> MobileNetV3Spec:
    """Once-for-all's space on MobileNetV3-Large: 25 * 7371^5 architectures.

    A stage has 9^2 + 9^3 + 9^4 = 7371 of them: kernel sizes and expansion ratios of its blocks.
    There are 25 resolutions, 128 to 224.
    """

    def width(channels: int) -> int:
        return round_channels(channels * width_multiplier)

    fixed = StageSpec(
        name="stage0",
        widths=(width(16),),
        depths=(1,),
        kernel_sizes=(3,),
        expansion_ratios=(1,),
        stride=1,
    )
    rows = (  # channels, stride, activation, squeeze-and-excitation
        (24, 2, "relu", False),
        (40, 2, "relu", True),
        (80, 2, "hard_swish", False),
        (112, 1, "hard_swish", True),
        (160, 2, "hard_swish", True),
    )
    stages = (
        StageSpec(
            name=f"stage{number}",
            widths=(width(channels),),
            depths=(2, 3, 4),
            kernel_sizes=(3, 5, 7),
            expansion_ratios=(3, 4, 6),
            stride=stride,
            activation=activation,
            has_squeeze_excitation=has_squeeze_excitation,
        )
        for number, (channels, stride, activation, has_squeeze_excitation) in enumerate(rows, 1)
    )
    return MobileNetV3Spec(
        stem_widths=(width(16),),
        stem_stride=2,
        stages=(fixed, *stages),
        final_widths=(width(960),),
        feature_widths=(width(1280),),
        in_channels=3,
        image_size=224,
        num_classes=1000,
        resolutions=tuple(range(128, 225, 4)),
    )


def _attentive_nas() -> MobileNetV3Spec:
    """The space of AttentiveNAS (Wang et al., CVPR 2021): 440,301,256,704 architectures.

    That is 4 resolutions, 2 stem widths, 8 * 36 * 48 * 48 * 108 * 48 * 8 choices in the uniform
    stages, and 2 widths of what the paper calls the last convolution: the features of a head like
    MobileNetV3's, after a convolution to six times the width of the last stage and pooling.

    First blocks of stages have no shortcut here. The paper's have projections, 5 of the 203
    million MACs of its smallest network, A0.
    """
    rows = (  # widths, depths, expansion ratios, stride, squeeze-and-excitation
        ((16, 24), (1, 2), (1,), 1, False),
        ((24, 32), (3, 4, 5), (4, 5, 6), 2, False),
        ((32, 40), (3, 4, 5, 6), (4, 5, 6), 2, True),
        ((64, 72), (3, 4, 5, 6), (4, 5, 6), 2, False),
        ((112, 120, 128), (3, 4, 5, 6, 7, 8), (4, 5, 6), 1, True),
        ((192, 200, 208, 216), (3, 4, 5, 6, 7, 8), (6,), 2, True),
        ((216, 224), (1, 2), (6,), 1, True),
    )
    stages = tuple(
        StageSpec(
            name=f"stage{number}",
            widths=widths,
            depths=depths,
            kernel_sizes=(3, 5),
            expansion_ratios=expansion_ratios,
            stride=stride,
            activation="swish",
            has_squeeze_excitation=has_squeeze_excitation,
            is_uniform=True,
        )
        for number, (widths, depths, expansion_ratios, stride, has_squeeze_excitation) in enumerate(
            rows, 1
        )
    )
    return MobileNetV3Spec(
        stem_widths=(16, 24),
        stem_stride=2,
        stages=stages,
        final_widths=(6 * 216, 6 * 224),
        feature_widths=(1792, 1984),
        activation="swish",
        in_channels=3,
        image_size=288,
        num_classes=1000,
        resolutions=(192, 224, 256, 288),
    )


def _fashion() -> MobileNetV3Spec:
    """For 28x28 grey images such as Fashion-MNIST: 456,412,320 architectures.

    That is 3 resolutions, and in the stages 2 * (9 + 9^2), 2 * (9 + 9^2 + 9^3) and
    2 * (6 + 6^2 + 6^3) choices. Where there is a 7x7 kernel, images are at least 5x5.
    """
    rows = (  # widths, depths, kernel sizes, stride, squeeze-and-excitation
        ((16, 24), (1, 2), (3, 5, 7), 2, False),
        ((32, 40), (1, 2, 3), (3, 5, 7), 2, False),
        ((64, 80), (1, 2, 3), (3, 5), 1, True),
    )
    stages = tuple(
        StageSpec(
            name=f"stage{number}",
            widths=widths,
            depths=depths,
            kernel_sizes=kernel_sizes,
            expansion_ratios=(2, 3, 4),
            stride=stride,
            activation="hard_swish",
            has_squeeze_excitation=has_squeeze_excitation,
        )
        for number, (widths, depths, kernel_sizes, stride, has_squeeze_excitation) in enumerate(
            rows, 1
        )
    )
    return MobileNetV3Spec(
        stem_widths=(16,),
        stem_stride=1,
        stages=stages,
        final_widths=(320, 320),
        feature_widths=(256,),
        in_channels=1,
        image_size=28,
        num_classes=10,
        resolutions=(20, 24, 28),
    )


def _fashion_fine() -> MobileNetV3Spec:
    """As `fashion`, with widths in steps of one channel: for long chains of nested sub-networks.

    A chain that grows by single steps has up to 171 members.
    """
    rows = (  # widths, depths, kernel sizes, expansion ratios, stride, squeeze-and-excitation
        (range(12, 25), (1, 2), (3, 5, 7), (2, 3, 4), 2, False),
        (range(24, 41), (1, 2, 3), (3, 5, 7), (2, 3, 4), 2, False),
        (range(48, 81), (1, 2, 3), (3, 5), (2, 2.5, 3, 3.5, 4), 1, True),
    )
    stages = tuple(
        StageSpec(
            name=f"stage{number}",
            widths=tuple(widths),
            depths=depths,
            kernel_sizes=kernel_sizes,
            expansion_ratios=expansion_ratios,
            stride=stride,
            activation="hard_swish",
            has_squeeze_excitation=has_squeeze_excitation,
        )
        for number, (
            widths,
            depths,
            kernel_sizes,
            expansion_ratios,
            stride,
            has_squeeze_excitation,
        ) in enumerate(rows, 1)
    )
    return MobileNetV3Spec(
        stem_widths=tuple(range(12, 17)),
        stem_stride=1,
        stages=stages,
        final_widths=tuple(4 * width for width in stages[-1].widths),
        feature_widths=tuple(range(128, 257, 2)),
        in_channels=1,
        image_size=28,
        num_classes=10,
        resolutions=(20, 24, 28),
    )


def _fashion_small() -> MobileNetV3Spec:
    """For 28x28 grey images such as Fashion-MNIST, with many widths and a strided stem.

    Widths are 0.3, 0.4 ... 1.0 times the largest, as in TAS (Dong and Yang, NeurIPS 2019).
    """

    def widths(channels: int) -> tuple[int, ...]:
        return tuple(channels * tenths // 10 for tenths in range(3, 11))

    rows = (  # channels, depths, stride, squeeze-and-excitation
        (16, (1, 2), 2, False),
        (24, (1, 2, 3), 1, False),
        (40, (1, 2), 2, True),
    )
    stages = tuple(
        StageSpec(
            name=f"stage{number}",
            widths=widths(channels),
            depths=depths,
            kernel_sizes=(3, 5),
            expansion_ratios=(2, 4, 6),
            stride=stride,
            activation="hard_swish",
            has_squeeze_excitation=has_squeeze_excitation,
        )
        for number, (channels, depths, stride, has_squeeze_excitation) in enumerate(rows, 1)
    )
    return MobileNetV3Spec(
        stem_widths=widths(16),
        stem_stride=2,
        stages=stages,
        final_widths=tuple(3 * width for width in widths(40)),
        feature_widths=(64, 96, 128),
        in_channels=1,
        image_size=28,
        num_classes=10,
    )


PRESETS = {
    "tiny": _tiny(),
    "ofa_w1.0": _once_for_all(1.0),
    "ofa_w1.2": _once_for_all(1.2),
    "attentive_nas": _attentive_nas(),
    "fashion": _fashion(),
    "fashion_fine": _fashion_fine(),
    "fashion_small": _fashion_small(),
}
"""Name -> specification."""
