"""ResNet supernets: residual blocks with elastic depth, width and inner width.

The networks of He et al. (CVPR 2016): a stem, stages of blocks, a classifier. There are two kinds
of stages, and every dimension exists where there is more than one choice:

    stem.width                      output channels of the stem
    stage1.depth                    how many blocks run, always the first ones

    of bottleneck stages (1x1, 3x3, 1x1), as in Once-for-all (Cai et al., ICLR 2020):
    stem.depth                      convolutions of the stem: the middle one can be left out
    stem.inner_width                channels between the convolutions of the stem
    stage1.width                    output channels of all blocks
    stage1.block1.expansion_ratio   inner channels per output channel

    of basic stages (3x3, 3x3), as in TAS (Dong and Yang, NeurIPS 2019):
    stage1.block1.inner_width       channels between the block's two convolutions
    stage1.block1.width             output channels of the block

Each changes parameters, MACs and output. A block's dimensions are inactive at depths that leave
it out.

A block adds its input to its output, of which the sizes can differ. A bottleneck stage changes
its width in the first block alone, whose shortcut is a learned projection (average pooling and a
1x1 convolution). A basic block's shortcut learns nothing: it takes every second pixel where the
block has a stride, and drops trailing channels or appends zeros. So channel i of the sum is always
made of channel i of both, at whatever widths, as slices are. TAS resamples the channels while it
searches and has projections in the network it derives; ours is one network throughout.

Read in this order: `spec.py` (choices, shapes and the search space), `presets.py`, `stems.py` and
`blocks.py` (elastic parts), `cost_terms.py` (what pieces of a network cost), `supernet.py` (the
network).
"""

from nasbench.supernet.families.resnet.blocks import ElasticBlock
from nasbench.supernet.families.resnet.spec import (
    BasicStage,
    BlockShape,
    BottleneckStage,
    NetworkShape,
    ResNetSpec,
    Stage,
    StemSpec,
)
from nasbench.supernet.families.resnet.stems import DeepElasticStem, ElasticStem
from nasbench.supernet.families.resnet.supernet import RESNET, ResNetSupernet

__all__ = [
    "BlockShape",
    "NetworkShape",
    "StemSpec",
    "BasicStage",
    "BottleneckStage",
    "Stage",
    "ResNetSpec",
    "ElasticStem",
    "DeepElasticStem",
    "ElasticBlock",
    "ResNetSupernet",
    "RESNET",
]
