"""MobileNetV3 supernets: inverted residual blocks with elastic depth, width, kernel and expansion.

The network of Howard et al. (ICCV 2019) with the elasticity of Once-for-all (Cai et al., ICLR
2020): a stem, stages of blocks, and a head. These dimensions exist where there is more than one
choice:

    resolution                      side of the images that the network computes with
    stem.width                      output channels of the stem
    stage1.depth                    how many blocks run, always the first ones
    stage1.width                    output channels of its blocks
    stage1.block1.kernel_size       of the block's depthwise convolution
    stage1.block1.expansion_ratio   the block's inner channels per input channel
    features.width                  features that the classifier sees

A uniform stage has one `stage1.kernel_size` and one `stage1.expansion_ratio` for all its blocks,
as in AttentiveNAS (Wang et al., CVPR 2021).

Each changes parameters, MACs and output; but resolution changes no parameters. A block's
dimensions are inactive at depths that leave it out. Where resolution is elastic, images of
another size are resized on the way in, by the extracted module too; elsewhere images are taken as
they come, and `image_size` only says where MACs are counted.

Read in this order: `spec.py` (choices, shapes and the search space), `presets.py`, `blocks.py`
(elastic blocks), `cost_terms.py` (what pieces of a network cost), `supernet.py` (the network).
"""

from nasbench.supernet.families.mobilenet_v3.blocks import ElasticBlock
from nasbench.supernet.families.mobilenet_v3.spec import (
    BlockShape,
    MobileNetV3Spec,
    NetworkShape,
    StageSpec,
)
from nasbench.supernet.families.mobilenet_v3.supernet import MOBILENET_V3, MobileNetV3Supernet

__all__ = [
    "BlockShape",
    "StageSpec",
    "MobileNetV3Spec",
    "NetworkShape",
    "ElasticBlock",
    "MobileNetV3Supernet",
    "MOBILENET_V3",
]
