"""Vision transformers with elastic depth, hidden size, heads and feed-forward width.

The network of Dosovitskiy et al. (ICLR 2021): a linear embedding of image patches behind a class
token, pre-normalized transformer blocks, and a linear classifier of the class token. What is
elastic stands in `nasbench.supernet.transformer`; heads have a fixed size, and the first ones are
kept. Its presets:

    vit_b16             InstaTune's space (Sridhar et al., 2023): 11 or 12 blocks of 4 x 3 choices,
                        so 12^11 + 12^12 architectures
    vit_base_imagenet   DyNAS-T's (Sarah et al., 2022): 10 to 12 blocks of as many choices,
                        so 12^10 + 12^11 + 12^12
    fashion             28x28 grey images
    tiny                8x8 grey images

Shape legend: B batch, T tokens, C features, I channels of an image, H height, W width.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasbench.errors import RequestError
from nasbench.space import Architecture, SearchSpace
from nasbench.supernet.base import Supernet, SupernetFamily
from nasbench.supernet.channel_order import ChannelGroup
from nasbench.supernet.layers import Counts, ElasticEmbedding, ElasticLayerNorm, ElasticLinear
from nasbench.supernet.plain_transformer import VisionTransformer
from nasbench.supernet.sharing import ElasticLayer
from nasbench.supernet.stages import check_image_settings
from nasbench.supernet.transformer import ElasticTransformerStack, StackShape, StackSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class VisionTransformerSpec:
    """All about one supernet: its patches and blocks, and the square images it is for."""

    patch_size: int
    stack: StackSpec
    in_channels: int
    image_size: int
    num_classes: int

    def __post_init__(self) -> None:
        check_image_settings(self)
        if self.image_size % self.patch_size:
            raise RequestError(
                f"image_size is a multiple of the patch size {self.patch_size}, "
                f"not {self.image_size}"
            )

    @property
    def num_patches(self) -> int:
        """Patches of an image."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def patch_features(self) -> int:
        """Numbers in a patch."""
        return self.in_channels * self.patch_size**2


class VisionTransformerSupernet(Supernet[StackShape]):
    """A vision transformer with an elastic stack."""

    spec: VisionTransformerSpec

    def __init__(self, spec: VisionTransformerSpec, settings: dict[str, Any]) -> None:
        super().__init__(SearchSpace(spec.stack.dimensions()), settings, spec)
        hidden_size = max(spec.stack.hidden_sizes)
        self.patches = ElasticLinear(spec.patch_features, hidden_size)
        self.class_token = ElasticEmbedding(1, hidden_size)
        self.positions = ElasticEmbedding(1 + spec.num_patches, hidden_size)
        self.stack = ElasticTransformerStack(spec.stack)
        self.norm = ElasticLayerNorm(hidden_size, eps=spec.stack.norm_eps)
        self.classifier = ElasticLinear(hidden_size, spec.num_classes)
        self.activate(self.space.largest)

    @property
    def output_layer(self) -> nn.Module:
        """The classifier."""
        return self.classifier

    def residual_ends(self) -> list[nn.Module]:
        """Those of the stack."""
        return self.stack.residual_ends()

    def mixed_layers(self) -> list[tuple[ElasticLayer, ...]]:
        """Those of the stack."""
        return self.stack.mixed_layers()

    def channel_groups(self) -> list[ChannelGroup]:
        """Those of the stack."""
        return self.stack.channel_groups()

    def forward(self, x_BIHW: Tensor) -> Tensor:
        """Images (B, I, H, W) of the spec's size -> logits (B, num_classes)."""
        return self._classify(self.stack(self._embed(x_BIHW), self.shape))

    def _exits(self, x_BIHW: Tensor) -> dict[int, Tensor]:
        """Depth -> logits (B, num_classes), with the one normalization and classifier."""
        states = self.stack.forward_exits(self._embed(x_BIHW), self.shape)
        return {depth: self._classify(x_BTC) for depth, x_BTC in states.items()}

    def _embed(self, x_BIHW: Tensor) -> Tensor:
        """Images -> tokens (B, T, C), the class token first."""
        spec, hidden_size = self.spec, self.shape.hidden_size
        pixels_BTP = F.pixel_unshuffle(x_BIHW, spec.patch_size).flatten(2).transpose(1, 2)
        patches_BTC = self.patches(pixels_BTP, hidden_size)
        class_token_B1C = self.class_token.table(1, hidden_size).expand(x_BIHW.shape[0], 1, -1)
        positions_TC = self.positions.table(1 + spec.num_patches, hidden_size)
        return torch.cat((class_token_B1C, patches_BTC), dim=1) + positions_TC

    def _classify(self, x_BTC: Tensor) -> Tensor:
        """Final states of the tokens -> logits (B, num_classes)."""
        return self.classifier(self.norm(x_BTC[:, 0]), self.spec.num_classes)

    def example_inputs(self, batch_size: int = 1) -> tuple[Tensor, ...]:
        """Standard normal images, of the type and on the device of the weights."""
        side = self.spec.image_size
        size = (batch_size, self.spec.in_channels, side, side)
        x_BIHW = torch.randn(size, generator=torch.Generator().manual_seed(0))
        return (x_BIHW.to(self.norm.weight),)

    def shape_of(self, architecture: Architecture) -> StackShape:
        """The active sizes of every block that runs."""
        return self.spec.stack.shape_of(architecture)

    def extract_shape(self, shape: StackShape) -> VisionTransformer:
        """A plain vision transformer."""
        spec, hidden_size = self.spec, shape.hidden_size
        return VisionTransformer(
            patch_size=spec.patch_size,
            patches=self.patches.extract(spec.patch_features, hidden_size),
            class_token=nn.Parameter(self.class_token.extract(hidden_size).weight.detach()),
            positions=self.positions.extract(hidden_size),
            stack=self.stack.extract(shape),
            norm=self.norm.extract(hidden_size),
            classifier=self.classifier.extract(hidden_size, spec.num_classes),
        )

    def count_shape(self, shape: StackShape) -> Counts:
        """Counts at the spec's image size."""
        spec, hidden_size = self.spec, shape.hidden_size
        counts = self.patches.count(spec.patch_features, hidden_size, spec.num_patches)
        counts += self.class_token.count(hidden_size) + self.positions.count(hidden_size)
        counts += self.stack.count(shape, 1 + spec.num_patches)
        counts += self.norm.count(hidden_size)
        return counts + self.classifier.count(hidden_size, spec.num_classes)


def _base(depths: tuple[int, ...], feed_forward_widths: tuple[int, ...]) -> VisionTransformerSpec:
    """ViT-B/16 for ImageNet, elastic in depth, heads and feed-forward width."""
    stack = StackSpec(
        depths=depths,
        hidden_sizes=(768,),
        num_heads=(6, 8, 10, 12),
        head_size=64,
        feed_forward_widths=feed_forward_widths,
        norm_first=True,
        norm_eps=1e-6,
    )
    return VisionTransformerSpec(
        patch_size=16, stack=stack, in_channels=3, image_size=224, num_classes=1000
    )


def _small(stack: StackSpec, patch_size: int, image_size: int) -> VisionTransformerSpec:
    """For ten classes of grey images."""
    return VisionTransformerSpec(
        patch_size=patch_size, stack=stack, in_channels=1, image_size=image_size, num_classes=10
    )


_FASHION = StackSpec(
    depths=(3, 4, 5, 6),
    hidden_sizes=(64, 96, 128),
    num_heads=(2, 3, 4),
    head_size=32,
    feed_forward_widths=(128, 256, 384),
    norm_first=True,
    norm_eps=1e-6,
)
_TINY = StackSpec(
    depths=(1, 2, 3, 4),
    hidden_sizes=(32, 48, 64),
    num_heads=(1, 2, 4),
    head_size=16,
    feed_forward_widths=(32, 64, 128),
    norm_first=True,
    norm_eps=1e-6,
)

VIT = SupernetFamily(
    name="vit",
    presets={
        "tiny": _small(_TINY, patch_size=2, image_size=8),
        "fashion": _small(_FASHION, patch_size=4, image_size=28),
        "vit_b16": _base(depths=(11, 12), feed_forward_widths=(2048, 2560, 3072)),
        "vit_base_imagenet": _base(depths=(10, 11, 12), feed_forward_widths=(1024, 2048, 3072)),
    },
    settings=("in_channels", "image_size", "num_classes"),
    supernet=VisionTransformerSupernet,
)
