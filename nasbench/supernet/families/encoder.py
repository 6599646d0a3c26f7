"""BERT-like text encoders with elastic depth, hidden size, heads and feed-forward width.

The network of Devlin et al. (NAACL 2019) with a classifier on its pooled first token: token and
position embeddings, post-normalized transformer blocks, and a tanh pooler. There is no segment
embedding: for single sequences it is one constant, which belongs into the position embeddings.
What is elastic stands in `nasbench.supernet.transformer`. The presets:

    bert_base_sst2      BERT-base in the space of DyNAS-T (Sarah et al., 2022) and InstaTune (2023):
                        depth 6 to 12, heads of a fixed size and feed-forward width per block;
                        12^6 + ... + 12^12 architectures
    mos_bottleneck      of Mixture-of-Supernets (Jawahar et al., ACL Findings 2024), after
                        SuperShaper (Ganesan et al., 2021): a hidden size per block, between
                        bottlenecks; 7^12
    mos_v5_1            of the same: one hidden size, number of heads and feed-forward ratio for
                        all blocks; 55 x 2 x 5
    mos_v5_2            of the same, with elastic depth and fewer hidden sizes; 3 x 28 x 2 x 5
    sst2                for task `sst2` on a few cores: from less than a million parameters to three
    tiny                sequences of 16 tokens out of 100

In the three of Mixture-of-Supernets, heads divide the block's hidden size.

Shape legend: B batch, T tokens, C features.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from nasbench.errors import RequestError, unknown_name
from nasbench.space import Architecture, SearchSpace
from nasbench.supernet.base import Supernet, SupernetFamily
from nasbench.supernet.channel_order import ChannelGroup
from nasbench.supernet.layers import (
    ACTIVATIONS,
    Counts,
    ElasticDropout,
    ElasticEmbedding,
    ElasticLayerNorm,
    ElasticLinear,
)
from nasbench.supernet.plain_transformer import TextClassifier
from nasbench.supernet.sharing import ElasticLayer
from nasbench.supernet.transformer import ElasticTransformerStack, StackShape, StackSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderSpec:
    """All about one supernet: its blocks, and the texts it is for.

    Args:
        max_length: tokens of the longest text, at which MACs are counted.
        padding_id: the token that fills up shorter texts.
        pooler_activation: a name in `ACTIVATIONS`.
    """

    stack: StackSpec
    vocab_size: int
    max_length: int
    num_classes: int
    padding_id: int = 0
    pooler_activation: str = "tanh"

    def __post_init__(self) -> None:
        for name, least in (
            ("vocab_size", 2),
            ("max_length", 1),
            ("num_classes", 1),
            ("padding_id", 0),
        ):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise RequestError(f"{name} is a whole number from {least} up, not {value!r}")
        if self.padding_id >= self.vocab_size:
            raise RequestError(
                f"padding_id is one of the {self.vocab_size} tokens of the vocabulary, not "
                f"{self.padding_id}"
            )
        if self.pooler_activation not in ACTIVATIONS:
            raise unknown_name("activation", self.pooler_activation, ACTIVATIONS)


class EncoderSupernet(Supernet[StackShape]):
    """A text classifier with an elastic stack."""

    spec: EncoderSpec

    def __init__(self, spec: EncoderSpec, settings: dict[str, Any]) -> None:
        super().__init__(SearchSpace(spec.stack.dimensions()), settings, spec)
        hidden_size = max(spec.stack.hidden_sizes)
        self.tokens = ElasticEmbedding(spec.vocab_size, hidden_size)
        self.positions = ElasticEmbedding(spec.max_length, hidden_size)
        self.norm = ElasticLayerNorm(hidden_size, eps=spec.stack.norm_eps)
        self.dropout = ElasticDropout(spec.stack.dropout, hidden_size)
        self.stack = ElasticTransformerStack(spec.stack)
        self.pooler = ElasticLinear(hidden_size, hidden_size)
        self.pooler_activation = ACTIVATIONS[spec.pooler_activation]()
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

    def forward(self, ids_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Token ids (B, T) -> logits (B, num_classes).

        Args:
            ids_BT: int64, of up to `max_length` tokens.
            mask_BT: True (or 1) for a token, False (or 0) for padding; None says that padding
                is where the padding id is.
        """
        embedded_BTC, visible_BT = self._embed(ids_BT, mask_BT)
        return self._classify(self.stack(embedded_BTC, self.shape, visible_BT))

    def _exits(self, ids_BT: Tensor, mask_BT: Tensor | None = None) -> dict[int, Tensor]:
        """Depth -> logits (B, num_classes), with the one pooler and classifier."""
        embedded_BTC, visible_BT = self._embed(ids_BT, mask_BT)
        states = self.stack.forward_exits(embedded_BTC, self.shape, visible_BT)
        return {depth: self._classify(x_BTC) for depth, x_BTC in states.items()}

    def _embed(self, ids_BT: Tensor, mask_BT: Tensor | None) -> tuple[Tensor, Tensor]:
        """Token ids -> what enters the stack (B, T, C), and which tokens may be seen (B, T)."""
        hidden_size = self.shape.hidden_size
        visible_BT = ids_BT != self.spec.padding_id if mask_BT is None else mask_BT.bool()
        positions_TC = self.positions.table(ids_BT.shape[1], hidden_size)
        embedded_BTC = self.norm(self.tokens(ids_BT, hidden_size) + positions_TC)
        return self.dropout(embedded_BTC), visible_BT

    def _classify(self, x_BTC: Tensor) -> Tensor:
        """Final states of the tokens -> logits (B, num_classes)."""
        pooled_BC = self.pooler_activation(self.pooler(x_BTC[:, 0], x_BTC.shape[-1]))
        return self.classifier(self.dropout(pooled_BC), self.spec.num_classes)

    def example_inputs(self, batch_size: int = 1) -> tuple[Tensor, ...]:
        """Random texts of `max_length`; every second one is half padding."""
        spec = self.spec
        size = (batch_size, spec.max_length)
        generator = torch.Generator().manual_seed(0)
        ids_BT = torch.randint(spec.vocab_size - 1, size, generator=generator)
        ids_BT += ids_BT >= spec.padding_id  # all tokens but that one
        ids_BT[1::2, (spec.max_length + 1) // 2 :] = spec.padding_id
        return (ids_BT.to(self.norm.weight.device),)

    def shape_of(self, architecture: Architecture) -> StackShape:
        """The active sizes of every block that runs."""
        return self.spec.stack.shape_of(architecture)

    def extract_shape(self, shape: StackShape) -> TextClassifier:
        """A plain text classifier."""
        hidden_size = shape.hidden_size
        return TextClassifier(
            tokens=self.tokens.extract(hidden_size),
            positions=self.positions.extract(hidden_size),
            norm=self.norm.extract(hidden_size),
            dropout=self.dropout.extract(hidden_size),
            stack=self.stack.extract(shape),
            pooler=self.pooler.extract(hidden_size, hidden_size),
            pooler_activation=type(self.pooler_activation)(),
            classifier=self.classifier.extract(hidden_size, self.spec.num_classes),
            padding_id=self.spec.padding_id,
        )

    def count_shape(self, shape: StackShape) -> Counts:
        """Counts at the spec's `max_length`."""
        hidden_size = shape.hidden_size
        counts = self.tokens.count(hidden_size) + self.positions.count(hidden_size)
        counts += self.norm.count(hidden_size)
        counts += self.stack.count(shape, self.spec.max_length)
        counts += self.pooler.count(hidden_size, hidden_size)
        return counts + self.classifier.count(hidden_size, self.spec.num_classes)


def _bert_base(stack: StackSpec) -> EncoderSpec:
    """English text in the word pieces of `bert-base-uncased`, two classes."""
    return EncoderSpec(stack=stack, vocab_size=30522, max_length=128, num_classes=2)


_BERT_BASE_SST2 = StackSpec(
    depths=tuple(range(6, 13)),
    hidden_sizes=(768,),
    num_heads=(6, 8, 10, 12),
    head_size=64,
    feed_forward_widths=(1024, 2048, 3072),
    norm_first=False,
    norm_eps=1e-12,
    dropout=0.1,
)
_MOS_BOTTLENECK = StackSpec(
    depths=(12,),
    hidden_sizes=(120, 240, 360, 480, 540, 600, 768),
    num_heads=(12,),
    head_size=None,
    feed_forward_widths=(3072,),
    norm_first=False,
    norm_eps=1e-12,
    dropout=0.1,
    has_bottlenecks=True,
)
_MOS_V5_1 = StackSpec(
    depths=(12,),
    hidden_sizes=tuple(range(120, 769, 12)),
    num_heads=(6, 12),
    head_size=None,
    feed_forward_ratios=(2, 2.5, 3, 3.5, 4),
    norm_first=False,
    norm_eps=1e-12,
    dropout=0.1,
    is_homogeneous=True,
)
_SST2 = StackSpec(
    depths=(1, 2, 3),
    hidden_sizes=(64, 128, 192),
    num_heads=(2, 4, 6),
    head_size=32,
    feed_forward_widths=(192, 384, 768),
    norm_first=False,
    norm_eps=1e-12,
    dropout=0.1,
)
_TINY = StackSpec(
    depths=(1, 2, 3),
    hidden_sizes=(32, 48, 64),
    num_heads=(1, 2, 4),
    head_size=16,
    feed_forward_widths=(32, 64, 128),
    norm_first=False,
    norm_eps=1e-12,
)

ENCODER = SupernetFamily(
    name="encoder",
    presets={
        "tiny": EncoderSpec(stack=_TINY, vocab_size=100, max_length=16, num_classes=2),
        "bert_base_sst2": _bert_base(_BERT_BASE_SST2),
        "mos_bottleneck": _bert_base(_MOS_BOTTLENECK),
        "mos_v5_1": _bert_base(_MOS_V5_1),
        "mos_v5_2": _bert_base(
            replace(_MOS_V5_1, depths=(6, 9, 12), hidden_sizes=tuple(range(120, 769, 24)))
        ),
        "sst2": EncoderSpec(stack=_SST2, vocab_size=8000, max_length=64, num_classes=2),
    },
    settings=("vocab_size", "max_length", "num_classes", "padding_id"),
    supernet=EncoderSupernet,
)
