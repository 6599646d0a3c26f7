"""Encoder-decoder supernets for translation: the space of HAT.

The post-normalized transformer of Vaswani et al. (NeurIPS 2017) with the elasticity of HAT (Wang
et al., ACL 2020). Its dimensions:

    encoder.hidden_size                                     features of a source token
    encoder.depth                                           layers that run, the first ones
    encoder.layer1.num_partitioned_heads                    heads of its self-attention
    encoder.layer1.feed_forward_width                       inner features of its feed-forward
    decoder.hidden_size                                     features of a target token
    decoder.depth                                           layers that run, the first ones
    decoder.layer1.self_attention.num_partitioned_heads     heads of its self-attention
    decoder.layer1.cross_attention.num_partitioned_heads    heads of its attention to the encoder
    decoder.layer1.cross_attention.num_layers               how many of the last encoder layers it
                                                            attends to, all their tokens at once
    decoder.layer1.feed_forward_width                       inner features of its feed-forward

All heads share out one fixed width, so their number changes the output alone. The number of
attended encoder layers changes MACs and output; every other dimension parameters too. A layer's
dimensions are inactive at depths that leave it out.

HAT's spaces have 40 dimensions, 2 + 6 x 2 of the encoder, whose depth has the one choice 6, and
2 + 6 x 4 of the decoder. They have 2 x 6^6 architectures of the encoder (6 = 2 numbers of heads x
3 widths) times 2 x (36 + 36^2 + ... + 36^6) of the decoder (36 = 2 x 2 numbers of heads x 3
numbers of attended layers x 3 widths), about 4.2e14.

One table embeds the source and the target and is the output layer; where the encoder is narrower
than the decoder, or the other way round, it uses the leading features. Dropout is in proportion
to the active hidden size, that of attention weights is constant.

Sources may be padded at either end, or between, and have at least one token. Targets start at
their first column, and what stands after a target's end changes none of its logits.

Read in this order: `spec.py` (choices, shapes and the search space), `presets.py`, `layers.py`
(elastic layers), `supernet.py` (the network).
"""

from nasbench.supernet.families.seq2seq.layers import ElasticDecoderLayer, ElasticEncoderLayer
from nasbench.supernet.families.seq2seq.spec import (
    DecoderLayerShape,
    EncoderLayerShape,
    Seq2SeqShape,
    Seq2SeqSpec,
)
from nasbench.supernet.families.seq2seq.supernet import SEQ2SEQ, Seq2SeqSupernet

__all__ = [
    "EncoderLayerShape",
    "DecoderLayerShape",
    "Seq2SeqShape",
    "Seq2SeqSpec",
    "ElasticEncoderLayer",
    "ElasticDecoderLayer",
    "Seq2SeqSupernet",
    "SEQ2SEQ",
]
