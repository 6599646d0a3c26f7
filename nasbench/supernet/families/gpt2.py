"""GPT-2-like decoders with elastic depth, hidden size, heads and feed-forward width.

The network of Radford et al., Language Models are Unsupervised Multitask Learners (2019): token and
position embeddings, pre-normalized causal transformer blocks, a final normalization, and the token
embedding again as the output layer. What is elastic stands in `nasbench.supernet.transformer`;
heads have a fixed size, and the first ones are kept. The presets:

    gpt2        the smallest published one, elastic in the proportions of InstaTune's BERT:
                depth 6 to 12 of 4 x 3 choices per block; 12^6 + ... + 12^12 architectures
    tiny        sequences of 16 tokens out of 64

Sequences of a batch start at its first column; what stands after the end of one (padding) changes
none of its logits.

Shape legend: B batch, T tokens, C features of a token, V vocabulary.
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
from nasbench.supernet.layers import Counts, ElasticDropout, ElasticEmbedding, ElasticLayerNorm
from nasbench.supernet.plain_transformer import CausalTransformer
from nasbench.supernet.sharing import ElasticLayer
from nasbench.supernet.transformer import ElasticTransformerStack, StackShape, StackSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class CausalTransformerSpec:
    """All about one supernet: its blocks, and the texts it is for.

    Args:
        max_length: tokens of the longest sequence, at which MACs are counted.
    """

    stack: StackSpec
    vocab_size: int
    max_length: int

    def __post_init__(self) -> None:
        for name in ("vocab_size", "max_length"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise RequestError(f"{name} is a whole number from 1 up, not {value!r}")
        if not self.stack.is_causal:
            raise RequestError("the stack of a language model is causal")


class CausalTransformerSupernet(Supernet[StackShape]):
    """A language model with an elastic stack."""

    spec: CausalTransformerSpec

    def __init__(self, spec: CausalTransformerSpec, settings: dict[str, Any]) -> None:
        super().__init__(SearchSpace(spec.stack.dimensions()), settings, spec)
        hidden_size = max(spec.stack.hidden_sizes)
        self.tokens = ElasticEmbedding(spec.vocab_size, hidden_size)
        self.positions = ElasticEmbedding(spec.max_length, hidden_size)
        self.dropout = ElasticDropout(spec.stack.dropout, hidden_size)
        self.stack = ElasticTransformerStack(spec.stack)
        self.norm = ElasticLayerNorm(hidden_size, eps=spec.stack.norm_eps)
        self.activate(self.space.largest)

    def residual_ends(self) -> list[nn.Module]:
        """Those of the stack."""
        return self.stack.residual_ends()

    def mixed_layers(self) -> list[tuple[ElasticLayer, ...]]:
        """Those of the stack."""
        return self.stack.mixed_layers()

    def channel_groups(self) -> list[ChannelGroup]:
        """Those of the stack."""
        return self.stack.channel_groups()

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Token ids (B, T) of up to `max_length` tokens -> logits (B, T, V)."""
        return self._logits(self.stack(self._embed(ids_BT), self.shape))

    def _exits(self, ids_BT: Tensor) -> dict[int, Tensor]:
        """Depth -> logits (B, T, V), with the one normalization and output layer."""
        states = self.stack.forward_exits(self._embed(ids_BT), self.shape)
        return {depth: self._logits(x_BTC) for depth, x_BTC in states.items()}

    def _embed(self, ids_BT: Tensor) -> Tensor:
        """Token ids -> what enters the stack (B, T, C)."""
        hidden_size = self.shape.hidden_size
        positions_TC = self.positions.table(ids_BT.shape[1], hidden_size)
        return self.dropout(self.tokens(ids_BT, hidden_size) + positions_TC)

    def _logits(self, x_BTC: Tensor) -> Tensor:
        """Final states of the tokens -> logits (B, T, V)."""
        table_VC = self.tokens.table(self.spec.vocab_size, x_BTC.shape[-1])
        return F.linear(self.norm(x_BTC), table_VC)

    def example_inputs(self, batch_size: int = 1) -> tuple[Tensor, ...]:
        """Random tokens, on the device of the weights."""
        size = (batch_size, self.spec.max_length)
        generator = torch.Generator().manual_seed(0)
        ids_BT = torch.randint(self.spec.vocab_size, size, generator=generator)
        return (ids_BT.to(self.norm.weight.device),)

    def shape_of(self, architecture: Architecture) -> StackShape:
        """The active sizes of every block that runs."""
        return self.spec.stack.shape_of(architecture)

    def extract_shape(self, shape: StackShape) -> CausalTransformer:
        """A plain language model."""
        hidden_size = shape.hidden_size
        return CausalTransformer(
            tokens=self.tokens.extract(hidden_size),
            positions=self.positions.extract(hidden_size),
            dropout=self.dropout.extract(hidden_size),
            stack=self.stack.extract(shape),
            norm=self.norm.extract(hidden_size),
        )

    def count_shape(self, shape: StackShape) -> Counts:
        """Counts for one sequence of `max_length` tokens; the output layer has no weights."""
        hidden_size, num_tokens = shape.hidden_size, self.spec.max_length
        counts = self.tokens.count(hidden_size) + self.positions.count(hidden_size)
        counts += self.stack.count(shape, num_tokens)
        counts += self.norm.count(hidden_size)
        return counts + Counts(num_macs=num_tokens * hidden_size * self.spec.vocab_size)


_GPT2 = StackSpec(
    depths=tuple(range(6, 13)),
    hidden_sizes=(768,),
    num_heads=(6, 8, 10, 12),
    head_size=64,
    feed_forward_widths=(1024, 2048, 3072),
    norm_first=True,
    norm_eps=1e-5,
    dropout=0.1,
    activation="gelu_tanh",
    is_causal=True,
)
_TINY = StackSpec(
    depths=(1, 2, 3),
    hidden_sizes=(24, 32),
    num_heads=(1, 2, 4),
    head_size=8,
    feed_forward_widths=(32, 64, 128),
    norm_first=True,
    norm_eps=1e-5,
    activation="gelu_tanh",
    is_causal=True,
)

GPT2 = SupernetFamily(
    name="gpt2",
    presets={
        "tiny": CausalTransformerSpec(stack=_TINY, vocab_size=64, max_length=16),
        "gpt2": CausalTransformerSpec(stack=_GPT2, vocab_size=50257, max_length=1024),
    },
    settings=("vocab_size", "max_length"),
    supernet=CausalTransformerSupernet,
)
