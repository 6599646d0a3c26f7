"""Decoding with depth exits: the same tokens as without, or those that are promised."""

import pytest
import torch

from nasbench.errors import RequestError
from nasbench.supernet import SUPERNETS
from nasbench.supernet.nested.decoding import (
    decode_confidently,
    decode_greedily,
    decode_speculatively,
)

PROMPT = torch.tensor([3, 14, 15, 9, 2])


@pytest.fixture(scope="module")
def supernet():
    """In double precision, so that no token hangs on rounding; with blocks that matter."""
    supernet = SUPERNETS["decoder"].build("tiny", seed=3).double().eval()
    with torch.no_grad():
        supernet.head.shared.weight.mul_(8)
        for end in supernet.residual_ends():
            end.shared.weight.mul_(2) if hasattr(end, "shared") else end.weight.mul_(2)
    return supernet


@pytest.fixture(scope="module")
def model(supernet):
    return supernet.extract(supernet.largest)


def plain_choice(supernet, depth, known_T):
    """The greedy choice of the sub-network of that depth, without any cache."""
    supernet.activate({**supernet.largest, "depth": depth})
    with torch.inference_mode():
        return supernet(known_T[None])[0, -1].argmax()


def test_greedy_decoding_is_that_of_the_whole_network(supernet, model):
    decoded = decode_greedily(model, PROMPT, 12)
    assert decoded.depths == (3,) * 12
    known_T = PROMPT
    for token in decoded.tokens:
        assert token == plain_choice(supernet, 3, known_T)
        known_T = torch.cat((known_T, token[None]))
    assert len(set(decoded.tokens.tolist())) > 3  # else little was compared


@pytest.mark.parametrize("draft_depth", [1, 2])
@pytest.mark.parametrize("num_drafts", [1, 2, 5])
@pytest.mark.parametrize("num_tokens", [1, 7, 24])
def test_speculation_gives_the_same_tokens(model, draft_depth, num_drafts, num_tokens):
    decoded = decode_speculatively(
        model, PROMPT, num_tokens, draft_depth=draft_depth, num_drafts=num_drafts
    )
    expected = decode_greedily(model, PROMPT, num_tokens).tokens
    assert torch.equal(decoded.tokens, expected)
    assert len(decoded.depths) == num_tokens


def test_speculation_sees_right_and_wrong_drafts(model):
    depths = decode_speculatively(model, PROMPT, 40, draft_depth=2, num_drafts=3).depths
    assert set(depths) == {2, 3}


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.6, 1.1])
def test_a_token_is_the_choice_of_the_depth_at_which_it_left(supernet, model, threshold):
    decoded = decode_confidently(model, PROMPT, 20, {1: threshold, 2: threshold})
    known_T = PROMPT
    for token, depth in zip(decoded.tokens, decoded.depths, strict=True):
        assert token == plain_choice(supernet, depth, known_T)
        known_T = torch.cat((known_T, token[None]))
    if threshold == 0:
        assert set(decoded.depths) == {1}
    elif threshold > 1:
        assert torch.equal(decoded.tokens, decode_greedily(model, PROMPT, 20).tokens)
    else:
        assert len(set(decoded.depths)) > 1  # tokens that left early were caught up with


@pytest.mark.parametrize(
    ("decode", "said"),
    [
        (lambda m: decode_confidently(m, PROMPT, 3, {3: 0.5}), "block 1 to 2 of 3, not 3"),
        (lambda m: decode_speculatively(m, PROMPT, 3, draft_depth=0), "block 1 to 2 of 3, not 0"),
        (lambda m: decode_greedily(m, PROMPT[None], 3), r"not \(1, 5\)"),
        (lambda m: decode_greedily(m, PROMPT[:0], 3), r"at least one token, .* not \(0,\)"),
        (lambda m: decode_greedily(m, PROMPT, 0), "at least one token is decoded, not 0"),
        (
            lambda m: decode_speculatively(m, PROMPT, 3, draft_depth=1, num_drafts=0),
            "at least one token is drafted, not 0",
        ),
    ],
)
def test_what_cannot_be_asked(model, decode, said):
    with pytest.raises(RequestError, match=said):
        decode(model)
