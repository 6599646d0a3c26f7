"""The seq2seq family: HAT's space, padding, attended encoder layers, caching and decoding."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from nasbench.cost import count_macs, count_parameters
from nasbench.errors import RequestError
from nasbench.supernet.families.seq2seq import SEQ2SEQ
from nasbench.supernet.plain_seq2seq import embed, source_positions
from nasbench.tasks.decoding import beam_search, greedy_search
from nasbench.testing.supernets import disturb

PADDING, BEGIN, END = 0, 1, 2
HAT_SPACES = ("hat_wmt", "hat_iwslt")


def build_weightless(**settings):
    with torch.device("meta"):
        return SEQ2SEQ.build(**settings)


@pytest.fixture
def supernet():
    supernet = SEQ2SEQ.build().double().eval()
    disturb(supernet)
    return supernet


@pytest.fixture(params=["smallest", "largest", "random 1", "random 2"])
def architecture(request, supernet):
    if request.param in ("smallest", "largest"):
        return getattr(supernet, request.param)
    return supernet.space.sample(np.random.default_rng(int(request.param[-1])))


@pytest.fixture(params=["active", "extracted"])
def network(request, supernet, architecture):
    supernet.activate(architecture)
    return supernet if request.param == "active" else supernet.extract(architecture)


def assert_same(first, second):
    torch.testing.assert_close(first, second, rtol=0, atol=1e-10)


# -- spaces and counts --------------------------------------------------------------------------


@pytest.mark.parametrize("preset", HAT_SPACES)
def test_hat_presets_have_its_space(preset):
    space = SEQ2SEQ.presets[preset].space()
    assert len(space) == 40
    assert space.size == (2 * 6**6) * (2 * sum(36**depth for depth in range(1, 7)))
    assert space["encoder.depth"].choices == (6,)
    assert space["decoder.depth"].choices == (1, 2, 3, 4, 5, 6)
    assert space["encoder.hidden_size"].choices == space["decoder.hidden_size"].choices
    assert space["decoder.layer6.cross_attention.num_layers"].choices == (1, 2, 3)
    assert space["decoder.layer6.cross_attention.num_layers"].active_when.choices == (6,)
    assert space["encoder.layer6.feed_forward_width"].active_when is None


@pytest.mark.parametrize(
    ("preset", "widths", "heads"),
    [("hat_wmt", (1024, 2048, 3072), (4, 8)), ("hat_iwslt", (512, 1024, 2048), (2, 4))],
)
def test_hat_presets_differ_in_widths_and_heads(preset, widths, heads):
    space = SEQ2SEQ.presets[preset].space()
    for name in ("encoder.layer1", "decoder.layer3"):
        assert space[f"{name}.feed_forward_width"].choices == widths
    for name in ("encoder.layer1", "decoder.layer3.self_attention"):
        assert space[f"{name}.num_partitioned_heads"].choices == heads
    assert space["decoder.layer3.cross_attention.num_partitioned_heads"].choices == heads


def test_size_of_the_tiny_preset():
    encoder, decoder = 2 * (9**2 + 9**3), 2 * (54 + 54**2)
    assert SEQ2SEQ.presets["tiny"].space().size == encoder * decoder


@pytest.mark.parametrize("preset", HAT_SPACES)
def test_counts_of_large_presets(preset):
    supernet = build_weightless(preset=preset)
    sampled = supernet.space.sample(np.random.default_rng(0))
    for architecture in (supernet.smallest, supernet.largest, sampled):
        extracted = supernet.extract(architecture)
        assert supernet.count(architecture) == {
            "num_parameters": count_parameters(extracted),
            "num_macs": count_macs(extracted, supernet.example_inputs()),
        }


def test_each_dimension_changes_what_it_says():
    supernet = build_weightless()
    smallest = supernet.smallest
    before = supernet.count(smallest)
    for neighbor in supernet.space.neighbors(smallest):
        changed = {n for n, count in supernet.count(neighbor).items() if count != before[n]}
        (name,) = (n for n in smallest if neighbor[n] != smallest[n])
        if name.endswith("num_partitioned_heads"):
            assert changed == set(), name
        elif name.endswith("num_layers"):
            assert changed == {"num_macs"}, name
        else:
            assert changed == {"num_parameters", "num_macs"}, name


# -- what is computed ---------------------------------------------------------------------------


def test_later_target_tokens_do_not_change_earlier_logits(supernet, network):
    source_BS, target_BT = supernet.example_inputs(2)
    before = network(source_BS, target_BT)
    for position in (1, 4, 7):
        changed_BT = target_BT.clone()
        changed_BT[:, position:] = changed_BT[:, position:] % 31 + 1
        after = network(source_BS, changed_BT)
        assert_same(after[:, :position], before[:, :position])
        assert (after[:, position] - before[:, position]).abs().max() > 1e-3


def test_every_source_token_and_its_place_matter(supernet, network):
    source_BS, target_BT = supernet.example_inputs(1)
    before = network(source_BS, target_BT)
    for position in range(source_BS.shape[1]):
        changed_BS = source_BS.clone()
        changed_BS[:, position] = changed_BS[:, position] % 31 + 1
        assert ((network(changed_BS, target_BT) - before).abs().amax(-1) > 1e-6).all()
    assert (network(source_BS.flip(1), target_BT) - before).abs().max() > 1e-4


@pytest.mark.parametrize("places", [[5, 6, 7], [0, 1], [0, 3, 6]])
def test_padding_of_the_source_does_not_matter(supernet, network, places):
    source_BS, target_BT = supernet.example_inputs(1)
    padded_BS = torch.full((1, 11), PADDING)
    is_token = torch.ones(11, dtype=torch.bool)
    is_token[[*places, 10][:3]] = False
    padded_BS[:, is_token] = source_BS[:, : is_token.sum()]
    expected = network(source_BS[:, : is_token.sum()], target_BT)
    assert_same(network(padded_BS, target_BT), expected)


def test_a_sequence_has_the_same_logits_alone_and_in_a_batch(supernet, network):
    source_BS, target_BT = supernet.example_inputs(4)
    together = network(source_BS, target_BT)
    for row in range(4):
        source = source_BS[row, source_BS[row] != PADDING]
        assert_same(network(source[None], target_BT[row : row + 1])[0], together[row])


def test_positions_count_tokens_and_not_padding():
    mask_BS = torch.tensor([[True, True, False, True], [False, False, True, True]])
    assert source_positions(mask_BS).tolist() == [[0, 1, 1, 2], [0, 0, 0, 1]]


def test_embedded_tokens_are_scaled_and_have_the_waves_of_the_largest_size():
    rows_BTC = torch.randn(1, 5, 6, generator=torch.Generator().manual_seed(0))
    positions_BT = torch.tensor([[0, 1, 2, 3, 9]])
    waves = embed(rows_BTC, positions_BT, largest_size=6) - 6**0.5 * rows_BTC
    assert waves[0, 0].tolist() == pytest.approx([0, 1, 0, 1, 0, 1], abs=1e-6)
    angle = 9 / 10_000 ** (2 / 6)
    expected = [np.sin(9), np.cos(9), np.sin(angle), np.cos(angle)]
    assert waves[0, 4, :4].tolist() == pytest.approx(expected, abs=1e-5)
    narrow = embed(rows_BTC[..., :4], positions_BT, largest_size=6) - 2 * rows_BTC[..., :4]
    torch.testing.assert_close(narrow, waves[..., :4])


def largest_but(supernet, **changes):
    return supernet.space.canonical({**supernet.largest, **changes})


@pytest.mark.parametrize(("first", "second"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_each_decoder_layer_attends_to_its_number_of_last_encoder_layers(supernet, first, second):
    numbers = {
        "decoder.layer1.cross_attention.num_layers": first,
        "decoder.layer2.cross_attention.num_layers": second,
    }
    supernet.activate(largest_but(supernet, **numbers))
    model = supernet.extract(supernet.architecture)
    outputs = []
    for layer in model.encoder:
        layer.register_forward_hook(lambda _layer, _inputs, output: outputs.append(output))
    source_BS, _ = supernet.example_inputs(2)
    memory = model.encode(source_BS).memory
    assert len(outputs) == 3
    for own, active in zip(memory, supernet.encode(source_BS).memory, strict=True):
        assert_same(own.keys_BSW, active.keys_BSW)
    for layer, number, keys_values in zip(model.decoder, (first, second), memory, strict=True):
        attended_BSC = torch.cat(outputs[3 - number :], dim=1)
        assert_same(keys_values.keys_BSW, layer.cross_attention.key(attended_BSC))
        assert_same(keys_values.values_BSW, layer.cross_attention.value(attended_BSC))


def test_attention_to_two_layers_is_one_softmax_over_all_their_tokens(supernet):
    model = supernet.extract(supernet.largest)
    layer = model.decoder[0]
    generator = torch.Generator().manual_seed(0)
    x_BTC = torch.randn(1, 3, 24, generator=generator, dtype=torch.float64)
    encoded = torch.randn(3, 1, 4, 24, generator=generator, dtype=torch.float64)
    mask_BS = torch.tensor([[True, True, True, False]])
    seen = []
    layer.cross_attention.out.register_forward_hook(lambda _l, inputs, _o: seen.append(inputs[0]))
    layer(x_BTC, layer.remember(list(encoded)), mask_BS, None)

    attended_SC = torch.cat((encoded[1, 0, :3], encoded[2, 0, :3]))
    queries = []
    layer.cross_attention.query.register_forward_hook(lambda _l, _i, out: queries.append(out))
    layer(x_BTC, layer.remember(list(encoded)), mask_BS, None)
    keys, values = (
        f(attended_SC) for f in (layer.cross_attention.key, layer.cross_attention.value)
    )
    for head in range(4):
        features = slice(4 * head, 4 * head + 4)  # a width of 16 in 4 parts
        weights = (queries[0][0, :, features] @ keys[:, features].T / 4**0.5).softmax(-1)
        assert_same(seen[0][0, :, features], weights @ values[:, features])


@pytest.mark.parametrize(("encoder_size", "decoder_size"), [(16, 24), (24, 16), (16, 16)])
def test_one_table_embeds_both_languages_and_is_the_output_layer(encoder_size, decoder_size):
    supernet = SEQ2SEQ.build(vocab_size=37)
    sizes = {"encoder.hidden_size": encoder_size, "decoder.hidden_size": decoder_size}
    model = supernet.extract(largest_but(supernet, **sizes))
    of_words = [name for name, p in model.named_parameters() if 37 in p.shape]
    assert of_words == ["embedding.weight"]
    assert model.embedding.weight.shape == (37, max(encoder_size, decoder_size))
    source_BS, target_BT = supernet.example_inputs(1)
    model(source_BS, target_BT)[..., 36].sum().backward()
    reached = model.embedding.weight.grad.abs().sum(1).nonzero().flatten().tolist()
    assert set(reached) == {36, *source_BS.flatten().tolist(), *target_BT.flatten().tolist()}


@pytest.mark.parametrize(("encoder_size", "decoder_size"), [(16, 24), (24, 16)])
def test_dropout_is_in_proportion_to_the_active_hidden_size(encoder_size, decoder_size):
    supernet = SEQ2SEQ.build(dropout=0.3)
    sizes = {"encoder.hidden_size": encoder_size, "decoder.hidden_size": decoder_size}
    model = supernet.extract(largest_but(supernet, **sizes))
    for part, size in (("encoder", encoder_size), ("decoder", decoder_size)):
        dropouts = [
            module
            for name, module in model.named_modules()
            if isinstance(module, nn.Dropout) and name.startswith(part)
        ]
        assert len(dropouts) >= 3
        assert all(dropout.p == pytest.approx(0.3 * size / 24) for dropout in dropouts)


def test_dropout_and_attention_dropout_act_while_training_alone():
    for rates in ({"dropout": 0.5}, {"attention_dropout": 0.5}):
        spec = replace(SEQ2SEQ.presets["tiny"], **rates)
        supernet = replace(SEQ2SEQ, presets={"tiny": spec}).build()
        inputs = supernet.example_inputs(2)
        for network in (supernet, supernet.extract(supernet.largest)):
            torch.manual_seed(0)
            assert not torch.equal(network.train()(*inputs), network(*inputs))
            assert torch.equal(network.eval()(*inputs), network(*inputs))


# -- decoding -----------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [[1] * 8, [3, 1, 4]])
def test_decoding_with_a_cache_gives_the_logits_of_all_tokens_at_once(supernet, network, steps):
    source_BS, target_BT = supernet.example_inputs(3)
    state, logits = network.encode(source_BS), []
    for new_tokens in target_BT.split(steps, dim=1):
        new_logits, state = network.decode(new_tokens, state)
        logits.append(new_logits)
    assert_same(torch.cat(logits, dim=1), network(source_BS, target_BT))


def begin(source_BS):
    return torch.full((len(source_BS), 1), BEGIN)


def translate_greedily(network, source_BS, length):
    target_BT = begin(source_BS)
    for _ in range(length):
        next_B = network(source_BS, target_BT)[:, -1].argmax(-1)
        has_ended_B = (target_BT == END).any(1)
        target_BT = torch.cat((target_BT, next_B.masked_fill(has_ended_B, END)[:, None]), dim=1)
    return target_BT[:, 1:]


def test_greedy_search_takes_the_likeliest_token(supernet, network):
    source_BS, _ = supernet.example_inputs(4)
    state = network.encode(source_BS)
    found = greedy_search(network, begin(source_BS), state, max_new_tokens=6, end_id=END)
    expected = translate_greedily(network, source_BS, 6)
    assert torch.equal(found, expected[:, : found.shape[1]])
    assert (expected[:, found.shape[1] :] == END).all()


@pytest.fixture
def few_words(architecture):
    """A network of five words, in which every translation of three can be tried."""
    supernet = SEQ2SEQ.build(vocab_size=5).double().eval()
    disturb(supernet)
    return supernet.extract(architecture)


def score_of(network, source_BS, row, tokens):
    """The mean log probability of one translation."""
    target_BT = torch.tensor([[BEGIN, *tokens]])
    with torch.no_grad():
        log_probs = network(source_BS[row : row + 1], target_BT)[0].log_softmax(-1)
    return sum(log_probs[i, token].item() for i, token in enumerate(tokens)) / len(tokens)


def test_beam_search_with_enough_beams_finds_the_best_translation(few_words):
    source_BS = torch.tensor([[3, 4, 3, 1], [4, 1, PADDING, PADDING]])
    candidates = [
        tokens
        for length in (1, 2, 3)
        for tokens in itertools.product(range(5), repeat=length)
        if END not in tokens[:-1] and (tokens[-1] == END or length == 3)
    ]
    state = few_words.encode(source_BS)
    settings = {"max_new_tokens": 3, "end_id": END}
    found = beam_search(few_words, begin(source_BS), state, beam_size=len(candidates), **settings)
    again = beam_search(few_words, begin(source_BS), state, beam_size=len(candidates), **settings)
    assert torch.equal(found.tokens_BN, again.tokens_BN)
    greedy = translate_greedily(few_words, source_BS, 3).tolist()
    for row in range(2):
        scores = {tokens: score_of(few_words, source_BS, row, tokens) for tokens in candidates}
        best = max(scores, key=scores.get)
        tokens = found.tokens_BN[row].tolist()
        assert tuple(tokens[: len(best)]) == best
        assert set(tokens[len(best) :]) <= {END}
        assert found.scores_B[row].item() == pytest.approx(scores[best], abs=1e-9)
        taken = greedy[row][: greedy[row].index(END) + 1] if END in greedy[row] else greedy[row]
        assert scores[best] >= scores[tuple(taken)]


def test_the_score_of_a_beam_is_that_of_its_translation(supernet, network):
    source_BS, _ = supernet.example_inputs(3)
    state = network.encode(source_BS)
    found = beam_search(network, begin(source_BS), state, max_new_tokens=6, end_id=END)
    for row, tokens in enumerate(found.tokens_BN.tolist()):
        tokens = tokens[: tokens.index(END) + 1] if END in tokens else tokens
        expected = score_of(network, source_BS, row, tokens)
        assert found.scores_B[row].item() == pytest.approx(expected, abs=1e-9)


# -- settings and export ------------------------------------------------------------------------


def test_settings_replace_fields_of_the_preset():
    supernet = SEQ2SEQ.build(vocab_size=11, max_length=5, padding_id=10)
    source_BS, target_BT = supernet.example_inputs(4)
    assert source_BS.shape == target_BT.shape == (4, 5)
    assert (source_BS == 10).sum(1).tolist() == [0, 2, 0, 2]
    assert target_BT.max() < 10
    assert supernet(source_BS, target_BT).shape == (4, 5, 11)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vocab_size": 1}, "vocab_size is a whole number from 2 up, not 1"),
        ({"max_length": 0}, "max_length is a whole number from 1 up, not 0"),
        ({"padding_id": -1}, "padding_id is a whole number from 0 up, not -1"),
        ({"padding_id": 32}, "padding_id is 32, but the tokens are 0 to 31"),
        ({"dropout": 1.0}, "dropout is a rate from 0 up and below 1, not 1.0"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(RequestError, match=re.escape(message)):
        SEQ2SEQ.build(**settings)


def test_attending_to_encoder_layers_that_may_not_run_is_refused():
    with pytest.raises(RequestError, match="to the last 3 encoder layers where only 2 run"):
        replace(SEQ2SEQ.presets["tiny"], num_attended=(1, 3))


@pytest.mark.slow
@pytest.mark.onnx
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_an_extracted_model_runs_in_onnxruntime(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    supernet = SEQ2SEQ.build()
    model = supernet.extract(supernet.largest)
    inputs = supernet.example_inputs(2)
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(model, inputs, dynamic_shapes=tuple({0: batch} for _ in inputs))
    torch.onnx.export(program, f=tmp_path / "model.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    inputs = supernet.example_inputs(3)
    names = [given.name for given in session.get_inputs()]
    feed = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
    (logits_BTV,) = session.run(None, feed)
    with torch.no_grad():
        np.testing.assert_allclose(logits_BTV, model(*inputs).numpy(), rtol=0, atol=1e-4)
