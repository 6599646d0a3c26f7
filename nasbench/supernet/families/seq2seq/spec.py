"""The choices of a translation supernet, its search space, and the shapes in it."""

from collections.abc import Iterator
from dataclasses import dataclass

from nasbench.errors import RequestError
from nasbench.space import ActiveWhen, Choice, ElasticDimension, SearchSpace
from nasbench.supernet.attention import Heads


@dataclass(frozen=True, kw_only=True, slots=True)
class Seq2SeqSpec:
    """All about one supernet.

    Args:
        attention_width: what the heads of every attention share out.
        num_attended: how many of the last encoder layers a decoder layer can attend to.
        max_length: tokens of the example sources and targets, for which MACs are counted;
            positions need no table, so longer ones are computed as well.
        padding_id: the token that fills up sources.
        dropout: of hidden states at the largest hidden size.
        attention_dropout: of attention weights.
    """

    encoder_hidden_sizes: tuple[int, ...]
    decoder_hidden_sizes: tuple[int, ...]
    encoder_depths: tuple[int, ...]
    decoder_depths: tuple[int, ...]
    feed_forward_widths: tuple[int, ...]
    num_heads: tuple[int, ...]
    num_attended: tuple[int, ...]
    attention_width: int
    vocab_size: int
    max_length: int
    padding_id: int
    dropout: float
    attention_dropout: float

    def __post_init__(self) -> None:
        for name, least in (("vocab_size", 2), ("max_length", 1), ("padding_id", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise RequestError(f"{name} is a whole number from {least} up, not {value!r}")
        if self.padding_id >= self.vocab_size:
            raise RequestError(
                f"padding_id is {self.padding_id}, but the tokens are 0 to {self.vocab_size - 1}"
            )
        if not 0 <= self.dropout < 1:
            raise RequestError(f"dropout is a rate from 0 up and below 1, not {self.dropout!r}")
        if max(self.num_attended) > min(self.encoder_depths):
            raise RequestError(
                f"decoder layers cannot attend to the last {max(self.num_attended)} encoder "
                f"layers where only {min(self.encoder_depths)} run"
            )

    @property
    def largest_hidden_size(self) -> int:
        """Features of the embedding."""
        return max(*self.encoder_hidden_sizes, *self.decoder_hidden_sizes)

    def space(self) -> SearchSpace:
        """The elastic dimensions of the encoder, then of the decoder."""
        heads = self.num_heads
        encoder = _stack_dimensions(
            "encoder",
            self.encoder_hidden_sizes,
            self.encoder_depths,
            num_partitioned_heads=heads,
            feed_forward_width=self.feed_forward_widths,
        )
        decoder = _stack_dimensions(
            "decoder",
            self.decoder_hidden_sizes,
            self.decoder_depths,
            **{
                "self_attention.num_partitioned_heads": heads,
                "cross_attention.num_partitioned_heads": heads,
                "cross_attention.num_layers": self.num_attended,
                "feed_forward_width": self.feed_forward_widths,
            },
        )
        return SearchSpace([*encoder, *decoder])


def _stack_dimensions(
    stack: str,
    hidden_sizes: tuple[int, ...],
    depths: tuple[int, ...],
    **of_layer: tuple[Choice, ...],
) -> Iterator[ElasticDimension]:
    yield ElasticDimension(f"{stack}.hidden_size", hidden_sizes)
    yield ElasticDimension(f"{stack}.depth", depths)
    for layer, layer_name in enumerate(layer_names(stack, max(depths)), 1):
        deep_enough = tuple(depth for depth in depths if depth >= layer)
        condition = None if deep_enough == depths else ActiveWhen(f"{stack}.depth", deep_enough)
        for name, choices in of_layer.items():
            yield ElasticDimension(f"{layer_name}.{name}", choices, condition)


def layer_names(stack: str, depth: int) -> list[str]:
    """The layers of the encoder or the decoder, as dimensions name them."""
    return [f"{stack}.layer{layer}" for layer in range(1, depth + 1)]


@dataclass(frozen=True, slots=True)
class EncoderLayerShape:
    """The active sizes of one encoder layer."""

    hidden_size: int
    heads: Heads
    feed_forward_width: int


@dataclass(frozen=True, slots=True)
class DecoderLayerShape:
    """The active sizes of one decoder layer.

    Attributes:
        source_size: the features of what it attends to in the source.
        num_attended: how many of the last encoder layers it attends to.
    """

    hidden_size: int
    source_size: int
    self_heads: Heads
    cross_heads: Heads
    num_attended: int
    feed_forward_width: int


@dataclass(frozen=True, slots=True)
class Seq2SeqShape:
    """The active sizes of the network: as many layers as run."""

    encoder_size: int
    decoder_size: int
    encoder: tuple[EncoderLayerShape, ...]
    decoder: tuple[DecoderLayerShape, ...]
