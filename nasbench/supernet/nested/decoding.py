"""Greedy decoding with depth exits: a language model that need not run all of its blocks.

For the plain networks of a `decoder` supernet whose depths were trained as one chain, so that the
first d blocks, with the normalization and the output layer that all share, are a language model.

    decode_greedily(model, prompt, 64)                         every token by all blocks
    decode_confidently(model, prompt, 64, {2: 0.9})            a token leaves early where block 2 is
                                                               at least 90 % sure
    decode_speculatively(model, prompt, 64, draft_depth=2)     drafts by 2 blocks, checked by all

What is promised, but for rounding: `decode_speculatively` gives the tokens of `decode_greedily`. In
`decode_confidently` each token is the greedy choice of the sub-network of the depth at which it
left, given those before it.

Tokens that left early still owe the later blocks their keys and values. They are kept, and run
through those blocks together with the next token that goes so deep: in one pass, and exactly.
Elhoushi et al., LayerSkip (2024), share work between draft and check in the same way. The exits are
those of Kavehzadeh et al., Sorted LLaMA (2023). The confidence is that of Schuster et al., CALM
(NeurIPS 2022), who approximate the missing keys and values.

Shape legend: T tokens, C features of a token, V vocabulary; B is 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from nasbench.errors import RequestError
from nasbench.supernet.plain_attention import KeysValues
from nasbench.supernet.plain_decoder import CausalLanguageModel
from nasbench.supernet.rotary import Rotation


@dataclass(frozen=True, slots=True)
class Decoded:
    """What was decoded.

    Args:
        tokens: the new ones, int64 of shape (T,).
        depths: how many blocks chose each.
    """

    tokens: Tensor
    depths: tuple[int, ...]


class _Segments:
    """The blocks between exits, each with its cache and the states that wait before it.

    Args:
        exits: rising depths, the last of which is the model's.
    """

    def __init__(self, model: CausalLanguageModel, exits: Sequence[int]) -> None:
        self.model, self.exits = model, tuple(exits)
        self.bounds = tuple(pairwise((0, *exits)))
        self.caches: list[KeysValues | None] = [None] * len(model.blocks)
        self.waiting_1TC: list[Tensor | None] = [None] * len(self.bounds)

    def embed(self, tokens_T: Tensor) -> None:
        """Let these tokens wait before the first block."""
        self.wait(0, self.model.embedding(tokens_T[None]))

    def wait(self, segment: int, x_1TC: Tensor) -> None:
        """Let these states wait behind those that wait there."""
        before = self.waiting_1TC[segment]
        self.waiting_1TC[segment] = x_1TC if before is None else torch.cat((before, x_1TC), dim=1)

    def run(self, segment: int) -> Tensor:
        """All that wait there, after the blocks of the segment: (1, T, C)."""
        x_1TC = self.waiting_1TC[segment]
        assert x_1TC is not None
        self.waiting_1TC[segment] = None
        start, stop = self.bounds[segment]
        rotation = Rotation.of_positions(
            self.num_done(segment), x_1TC.shape[1], self.model.rotary_size, x_1TC.device
        )
        for number in range(start, stop):
            x_1TC, self.caches[number] = self.model.blocks[number](
                x_1TC, rotation, self.caches[number]
            )
        return x_1TC

    def num_done(self, segment: int) -> int:
        """How many tokens the segment has seen."""
        cache = self.caches[self.bounds[segment][0]]
        return 0 if cache is None else cache.keys_BSW.shape[1]

    def forget(self, num_kept: int) -> None:
        """Keep what the blocks know of the first tokens alone."""
        self.caches = [
            None if cache is None else KeysValues(*(part[:, :num_kept] for part in cache))
            for cache in self.caches
        ]

    def logits(self, x_1TC: Tensor) -> Tensor:
        """What the next token is after each of these: (T, V)."""
        return self.model.head(self.model.norm(x_1TC))[0]


def _check(prompt_T: Tensor, num_tokens: int) -> None:
    if prompt_T.ndim != 1 or len(prompt_T) == 0:
        raise RequestError(
            f"a prompt is a sequence of at least one token, of shape (T,), not "
            f"{tuple(prompt_T.shape)}"
        )
    if num_tokens < 1:
        raise RequestError(f"at least one token is decoded, not {num_tokens}")


def _check_exit(model: CausalLanguageModel, depth: int) -> None:
    if not 1 <= depth < len(model.blocks):
        raise RequestError(
            f"an exit comes after block 1 to {len(model.blocks) - 1} of {len(model.blocks)}, "
            f"not {depth}"
        )


@torch.inference_mode()
def decode_greedily(model: CausalLanguageModel, prompt_T: Tensor, num_tokens: int) -> Decoded:
    """The most likely token after the prompt, and so on, each by all blocks."""
    return decode_confidently(model, prompt_T, num_tokens, {})


@torch.inference_mode()
def decode_confidently(
    model: CausalLanguageModel, prompt_T: Tensor, num_tokens: int, thresholds: Mapping[int, float]
) -> Decoded:
    """Greedy decoding in which a token leaves at the first exit that is sure enough of it.

    Args:
        prompt_T: int64 of shape (T,).
        thresholds: depth -> the probability that its likeliest token must reach; above 1 never.

    Raises:
        RequestError: for an impossible exit, prompt or number of tokens.
    """
    _check(prompt_T, num_tokens)
    for depth in thresholds:
        _check_exit(model, depth)
    segments = _Segments(model, (*sorted(thresholds), len(model.blocks)))
    tokens, depths = [], []
    new_T = prompt_T
    for _ in range(num_tokens):
        segments.embed(new_T)
        for segment, depth in enumerate(segments.exits):
            x_1TC = segments.run(segment)
            (logits_V,) = segments.logits(x_1TC[:, -1:])
            is_last = segment + 1 == len(segments.exits)
            if not is_last:
                segments.wait(segment + 1, x_1TC)
            if is_last or logits_V.softmax(-1).max() >= thresholds[depth]:
                break
        new_T = logits_V.argmax(-1, keepdim=True)
        tokens.append(new_T)
        depths.append(depth)
    return Decoded(torch.cat(tokens), tuple(depths))


@torch.inference_mode()
def decode_speculatively(
    model: CausalLanguageModel,
    prompt_T: Tensor,
    num_tokens: int,
    *,
    draft_depth: int,
    num_drafts: int = 4,
) -> Decoded:
    """Greedy decoding in which the first blocks draft some tokens, and all check them at once.

    Args:
        prompt_T: int64 of shape (T,).
        draft_depth: the blocks that draft; what they computed is used by the check.
        num_drafts: tokens that are checked together.

    Returns:
        The tokens that all blocks choose; `depths` says by how many blocks each was first named.

    Raises:
        RequestError: for an impossible exit, prompt or number.
    """
    _check(prompt_T, num_tokens)
    _check_exit(model, draft_depth)
    if num_drafts < 1:
        raise RequestError(f"at least one token is drafted, not {num_drafts}")
    full = len(model.blocks)
    segments = _Segments(model, (draft_depth, full))
    tokens: list[Tensor] = []
    depths: list[int] = []
    new_T, num_known = prompt_T, len(prompt_T)
    while len(depths) < num_tokens:
        drafts = []
        for _ in range(num_drafts):
            segments.embed(new_T)
            x_1TC = segments.run(0)
            segments.wait(1, x_1TC)
            new_T = segments.logits(x_1TC[:, -1:]).argmax(-1)
            drafts.append(new_T)
        draft_T = torch.cat(drafts)
        checked_T = segments.logits(segments.run(1)[:, -num_drafts:]).argmax(-1)
        is_right = (draft_T == checked_T).tolist()
        num_right = next((n for n, right in enumerate(is_right) if not right), num_drafts)
        num_new = min(num_right + 1, num_drafts)
        tokens.append(checked_T[:num_new])
        depths += [draft_depth] * num_right + [full] * (num_new - num_right)
        segments.forget(num_known + num_new - 1)
        new_T, num_known = checked_T[num_new - 1 : num_new], num_known + num_new
    return Decoded(torch.cat(tokens)[:num_tokens], tuple(depths[:num_tokens]))
