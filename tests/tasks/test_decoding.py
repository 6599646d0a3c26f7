"""Greedy and beam search on a network small enough to try every continuation."""

import itertools

import pytest
import torch

from nasbench.errors import RequestError
from nasbench.tasks.decoding import beam_search, greedy_search

END, VOCAB_SIZE, MAX_NEW_TOKENS = 0, 4, 3


class LastTwoTokens:
    """Logits from a table of the last two tokens; the state is the last one, per sequence."""

    def __init__(self, seed):
        generator = torch.Generator().manual_seed(seed)
        self.table = 2 * torch.randn(VOCAB_SIZE, VOCAB_SIZE, VOCAB_SIZE, generator=generator)

    def decode(self, tokens_BT, state):
        before_B = state[0] if state else torch.zeros_like(tokens_BT[:, 0])
        tokens = torch.cat((before_B[:, None], tokens_BT), dim=1)
        return self.table[tokens[:, :-1], tokens[:, 1:]], (tokens_BT[:, -1],)


def log_prob(network, prompt, continuation):
    tokens = torch.tensor([[*prompt, *continuation]])
    logits, _ = network.decode(tokens, ())
    steps = logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    return sum(step[token].item() for step, token in zip(steps, continuation, strict=True))


def continuations():
    """All that end, and all that are as long as can be."""
    for length in range(1, MAX_NEW_TOKENS + 1):
        for tokens in itertools.product(range(VOCAB_SIZE), repeat=length):
            ends = tokens[-1] == END
            if END not in tokens[:-1] and (ends or length == MAX_NEW_TOKENS):
                yield tokens


def best_of_all(network, prompt, length_penalty):
    """(score, tokens), by trying each."""
    return max(
        (log_prob(network, prompt, tokens) / len(tokens) ** length_penalty, tokens)
        for tokens in continuations()
    )


def best_of_beams(network, prompt, beam_size, length_penalty):
    """(score, tokens): beam search on lists, that computes everything anew at each step."""
    beams = [()]
    for _ in range(MAX_NEW_TOKENS):
        longer = []
        for beam in beams:
            has_ended = beam[-1:] == (END,)
            longer += [beam] if has_ended else [(*beam, token) for token in range(VOCAB_SIZE)]
        scored = [(log_prob(network, prompt, b) / len(b) ** length_penalty, b) for b in longer]
        beams = [beam for _, beam in sorted(scored, reverse=True)[:beam_size]]
    return max((log_prob(network, prompt, b) / len(b) ** length_penalty, b) for b in beams)


PROMPTS = ((1,), (2,), (3,))
PROMPTS_BT = torch.tensor(PROMPTS)


def filled(tokens, length):
    return [*tokens, *[END] * (length - len(tokens))]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
@pytest.mark.parametrize("beam_size", [1, 2, 3, VOCAB_SIZE**MAX_NEW_TOKENS])
def test_beam_search_keeps_the_best_continuations(seed, length_penalty, beam_size):
    network = LastTwoTokens(seed)
    found = beam_search(
        network,
        PROMPTS_BT,
        max_new_tokens=MAX_NEW_TOKENS,
        end_id=END,
        beam_size=beam_size,
        length_penalty=length_penalty,
    )
    for prompt, tokens_N, score in zip(PROMPTS, found.tokens_BN, found.scores_B, strict=True):
        expected_score, expected = best_of_beams(network, prompt, beam_size, length_penalty)
        assert tokens_N.tolist() == filled(expected, len(tokens_N))
        assert score.item() == pytest.approx(expected_score, abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0])
def test_with_enough_beams_nothing_is_better(seed, length_penalty):
    network = LastTwoTokens(seed)
    found = beam_search(
        network,
        PROMPTS_BT,
        max_new_tokens=MAX_NEW_TOKENS,
        end_id=END,
        beam_size=VOCAB_SIZE**MAX_NEW_TOKENS,
        length_penalty=length_penalty,
    )
    greedy = greedy_search(network, PROMPTS_BT, max_new_tokens=MAX_NEW_TOKENS, end_id=END)
    for row, prompt in enumerate(PROMPTS):
        score, tokens = best_of_all(network, prompt, length_penalty)
        assert found.scores_B[row].item() == pytest.approx(score, abs=1e-5)
        assert found.tokens_BN[row].tolist() == filled(tokens, found.tokens_BN.shape[1])
        taken = greedy[row].tolist()
        taken = taken[: taken.index(END) + 1] if END in taken else taken
        assert score >= log_prob(network, prompt, taken) / len(taken) ** length_penalty


@pytest.mark.parametrize("seed", range(5))
def test_one_beam_is_greedy_search(seed):
    network = LastTwoTokens(seed)
    greedy = greedy_search(network, PROMPTS_BT, max_new_tokens=6, end_id=END)
    found = beam_search(network, PROMPTS_BT, max_new_tokens=6, end_id=END, beam_size=1)
    assert torch.equal(found.tokens_BN, greedy)


def test_a_long_prompt_is_read_whole():
    network = LastTwoTokens(0)
    prompt_BT = torch.tensor([[3, 1, 2]])
    logits, _ = network.decode(prompt_BT, ())
    first = greedy_search(network, prompt_BT, max_new_tokens=1)
    assert first.tolist() == [[int(logits[0, -1].argmax())]]


def test_without_an_end_greedy_search_goes_on():
    network = LastTwoTokens(0)
    assert greedy_search(network, PROMPTS_BT, max_new_tokens=9).shape == (3, 9)


def test_what_has_ended_is_filled_with_the_end():
    network = LastTwoTokens(0)
    network.table[0, 1] = torch.tensor([9.0, 0, 0, 0])  # the first prompt ends at once
    network.table[0, 2] = torch.tensor([0.0, 0, 0, 9])
    network.table[2, 3] = torch.tensor([9.0, 0, 0, 0])  # the second with its second token
    tokens = greedy_search(network, PROMPTS_BT[:2], max_new_tokens=9, end_id=END)
    assert tokens.tolist() == [[END, END], [3, END]]


@pytest.mark.parametrize("settings", [{"beam_size": 0}, {"max_new_tokens": 0}])
def test_impossible_numbers_are_refused(settings):
    with pytest.raises(RequestError, match=f"{next(iter(settings))} is a whole number from 1 up"):
        beam_search(LastTwoTokens(0), PROMPTS_BT, **{"max_new_tokens": 3, "end_id": 0, **settings})
