"""Presets of translation supernets: the spaces of HAT, and ours for few cores."""

from nasbench.supernet.families.seq2seq.spec import Seq2SeqSpec


def _tiny() -> Seq2SeqSpec:
    """For a toy language; trains in seconds on one core."""
    return Seq2SeqSpec(
        encoder_hidden_sizes=(16, 24),
        decoder_hidden_sizes=(16, 24),
        encoder_depths=(2, 3),
        decoder_depths=(1, 2),
        feed_forward_widths=(16, 32, 48),
        num_heads=(1, 2, 4),
        num_attended=(1, 2),
        attention_width=16,
        vocab_size=32,
        max_length=8,
        padding_id=0,
        dropout=0.0,
        attention_dropout=0.0,
    )


def _hat(
    feed_forward_widths: tuple[int, ...], num_heads: tuple[int, ...], vocab_size: int
) -> Seq2SeqSpec:
    """A space of HAT: 40 dimensions; MACs are counted for 30 source and 30 target tokens.

    Words are those of both languages together, which for IWSLT differs from HAT's two tables.
    Keys have no bias, as everywhere here: HAT's changes no output.
    """
    return Seq2SeqSpec(
        encoder_hidden_sizes=(512, 640),
        decoder_hidden_sizes=(512, 640),
        encoder_depths=(6,),
        decoder_depths=(1, 2, 3, 4, 5, 6),
        feed_forward_widths=feed_forward_widths,
        num_heads=num_heads,
        num_attended=(1, 2, 3),
        attention_width=512,
        vocab_size=vocab_size,
        max_length=30,
        padding_id=1,
        dropout=0.3,
        attention_dropout=0.1,
    )


def _multi30k() -> Seq2SeqSpec:
    """For task `multi30k` on a few cores; MACs are counted for its mean sentence, 16 tokens."""
    return Seq2SeqSpec(
        encoder_hidden_sizes=(128, 192, 256),
        decoder_hidden_sizes=(128, 192, 256),
        encoder_depths=(2, 3),
        decoder_depths=(1, 2, 3),
        feed_forward_widths=(256, 512, 1024),
        num_heads=(2, 4),
        num_attended=(1, 2),
        attention_width=256,
        vocab_size=6000,
        max_length=16,
        padding_id=0,
        dropout=0.2,
        attention_dropout=0.1,
    )


PRESETS = {
    "tiny": _tiny(),
    "multi30k": _multi30k(),
    "hat_wmt": _hat((1024, 2048, 3072), (4, 8), vocab_size=32768),
    "hat_iwslt": _hat((512, 1024, 2048), (2, 4), vocab_size=10000),
}
