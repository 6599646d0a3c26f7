"""Writing text with a network that gives the next token's logits: greedy and beam search.

Both take any network with `decode`, a supernet (its active sub-network) or an extracted one, in
eval mode:

    greedy_search(language_model, prompt_BT, max_new_tokens=50)
    beam_search(translator, begin_B1, translator.encode(source_BS), max_new_tokens=50, end_id=2)

Each step computes the new tokens alone. Equal inputs give equal outputs; nothing is drawn.

Shape legend: B batch, T tokens of a prompt, N new tokens, K beams, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from nasbench.errors import RequestError


class Decodes(Protocol):
    """A network that reads tokens step by step.

    Its state is a tensor with a row per sequence, or a tuple (of tuples) of such.
    """

    def decode(self, tokens_BT: Tensor, state: Any, /) -> tuple[Tensor, Any]:
        """Logits (B, T, V) of the tokens that follow the state, and the state after them."""


@torch.no_grad()
def greedy_search(
    network: Decodes,
    tokens_BT: Tensor,
    state: Any = (),
    *,
    max_new_tokens: int,
    end_id: int | None = None,
) -> Tensor:
    """Take the likeliest token at every step: (B, T) -> (B, N), what follows the prompt.

    Args:
        state: from where the prompt goes on; for a translator, what it encoded.
        end_id: ends a sequence, and fills what is left of it; None says that nothing does.
    """
    _check_positive(max_new_tokens=max_new_tokens)
    new_tokens: list[Tensor] = []
    has_ended_B = torch.zeros(len(tokens_BT), dtype=torch.bool, device=tokens_BT.device)
    while len(new_tokens) < max_new_tokens and not has_ended_B.all():
        logits_BTV, state = network.decode(tokens_BT, state)
        next_B = logits_BTV[:, -1].argmax(-1)
        if end_id is not None:
            next_B = next_B.masked_fill(has_ended_B, end_id)
            has_ended_B = next_B == end_id
        new_tokens.append(next_B)
        tokens_BT = next_B[:, None]
    return torch.stack(new_tokens, dim=1)


class Hypotheses(NamedTuple):
    """The best continuation that beam search found for each prompt.

    Attributes:
        tokens_BN: what follows the prompt; after its end filled with the end's id.
        scores_B: its log probability divided by its length to the power of `length_penalty`.
    """

    tokens_BN: Tensor
    scores_B: Tensor


@torch.no_grad()
def beam_search(
    network: Decodes,
    tokens_BT: Tensor,
    state: Any = (),
    *,
    max_new_tokens: int,
    end_id: int,
    beam_size: int = 5,
    length_penalty: float = 1.0,
) -> Hypotheses:
    """Keep the best `beam_size` continuations at every step, and return the best at the end.

    A continuation that has ended keeps its place among the others for as long as its score is
    good enough. With one beam this is greedy search; with as many beams as there are
    continuations it is exhaustive.

    Args:
        state: from where the prompt goes on; for a translator, what it encoded.
        end_id: ends a sequence; its log probability and place count.
        length_penalty: 0 compares log probabilities, 1 their means; more prefers long ones.
    """
    _check_positive(beam_size=beam_size, max_new_tokens=max_new_tokens)
    logits_BTV, state = network.decode(tokens_BT, state)
    batch_size = len(tokens_BT)
    first_row_B1 = torch.arange(batch_size, device=tokens_BT.device)[:, None] * beam_size
    state = _rows(state, (first_row_B1 // beam_size).expand(-1, beam_size).flatten())
    log_probs_BKV = logits_BTV[:, -1:].log_softmax(-1).expand(-1, beam_size, -1)
    beams = _Beams.at_first(log_probs_BKV[..., 0])
    while True:
        beams, parents_BK = beams.extended(log_probs_BKV, end_id, length_penalty)
        if beams.has_ended_BK.all() or beams.tokens_BKN.shape[-1] == max_new_tokens:
            return Hypotheses(beams.tokens_BKN[:, 0], beams.scores_BK[:, 0])
        state = _rows(state, (first_row_B1 + parents_BK).flatten())
        logits_BTV, state = network.decode(beams.tokens_BKN[..., -1:].flatten(0, 1), state)
        log_probs_BKV = logits_BTV[:, -1].log_softmax(-1).unflatten(0, (batch_size, beam_size))


def _check_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise RequestError(f"{name} is a whole number from 1 up, not {number}")


def _rows(state: Any, indices: Tensor) -> Any:
    """The same state with these rows of every tensor in it."""
    if isinstance(state, Tensor):
        return state.index_select(0, indices)
    parts = [_rows(part, indices) for part in state]
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)


@dataclass(frozen=True, slots=True)
class _Beams:
    """The continuations that are kept for each prompt, the best first."""

    tokens_BKN: Tensor
    log_probs_BK: Tensor
    lengths_BK: Tensor
    has_ended_BK: Tensor
    scores_BK: Tensor

    @classmethod
    def at_first(cls, like_BK: Tensor) -> "_Beams":
        """One empty continuation; the other places are impossible until they are filled."""
        log_probs_BK = torch.full_like(like_BK, -torch.inf)
        log_probs_BK[:, 0] = 0
        lengths_BK = torch.zeros_like(like_BK, dtype=torch.long)
        tokens_BKN = lengths_BK[..., None].expand(-1, -1, 0)
        return cls(tokens_BKN, log_probs_BK, lengths_BK, lengths_BK > 0, log_probs_BK)

    def extended(
        self, next_log_probs_BKV: Tensor, end_id: int, length_penalty: float
    ) -> tuple["_Beams", Tensor]:
        """The best continuations that are one token longer, and (B, K) which ones they extend."""
        num_beams, vocab_size = next_log_probs_BKV.shape[1:]
        end_alone_V = torch.full_like(next_log_probs_BKV[0, 0], -torch.inf)
        end_alone_V[end_id] = 0  # what has ended stays as it is
        next_log_probs_BKV = torch.where(
            self.has_ended_BK[..., None], end_alone_V, next_log_probs_BKV
        )
        log_probs_BKV = self.log_probs_BK[..., None] + next_log_probs_BKV
        lengths_BK = self.lengths_BK + ~self.has_ended_BK
        scores_BKV = log_probs_BKV / lengths_BK[..., None] ** length_penalty

        scores_BK, best_BK = scores_BKV.flatten(1).topk(num_beams)
        parents_BK, tokens_BK = best_BK // vocab_size, best_BK % vocab_size
        parents_BKN = parents_BK[..., None].expand(-1, -1, self.tokens_BKN.shape[-1])
        beams = _Beams(
            torch.cat((self.tokens_BKN.gather(1, parents_BKN), tokens_BK[..., None]), dim=-1),
            log_probs_BKV.flatten(1).gather(1, best_BK),
            lengths_BK.gather(1, parents_BK),
            tokens_BK == end_id,
            scores_BK,
        )
        return beams, parents_BK
