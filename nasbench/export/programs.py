"""Programs: the functions that a network is exported as, each of which becomes a file.

    a network         model     its inputs -> its output
    language model    decoder   new tokens, cache -> logits, longer cache
    translator        encoder   source -> source mask, memory
                      decoder   new target tokens, mask, memory, cache -> logits, longer cache

A cache is the keys and values of each block, for tokens that were read before; an empty one has
zero tokens. So one file reads a whole prompt at once and goes on token by token.

Sizes that stay open have names: "batch" first in every tensor, then "tokens", "past", "source".
A shape says all: ("batch", "past", 32), and "2*source" where there are two memories for each
source token.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from nasbench.supernet.plain_attention import KeysValues
from nasbench.supernet.plain_decoder import CausalLanguageModel
from nasbench.supernet.plain_seq2seq import DecoderLayer, EncoderDecoder, TranslationState
from nasbench.supernet.plain_transformer import CausalTransformer, TextClassifier

Size = int | str
Inputs = tuple[Tensor, ...]

_NUM_PAST = 3  # tokens in the cache of an example: a number that no other size is likely to have


@dataclass(frozen=True)
class TensorSpec:
    """What a program takes or gives: the tensor's name, its shape with open sizes, its type."""

    name: str
    shape: tuple[Size, ...]
    dtype: str

    @classmethod
    def of(cls, name: str, tensor: Tensor, *open_sizes: Size) -> "TensorSpec":
        """Of a tensor whose first sizes are these."""
        shape = (*open_sizes, *tensor.shape[len(open_sizes) :])
        return cls(name, shape, str(tensor.dtype).removeprefix("torch."))

    def to_json(self) -> dict[str, Any]:
        """As it stands in a manifest."""
        return {**asdict(self), "shape": list(self.shape)}


def factor_and_name(size: str) -> tuple[int, str]:
    """The parts of an open size: "2*source" is twice what is called "source"."""
    factor, _, name = size.rpartition("*")
    return int(factor or 1), name


@dataclass(frozen=True)
class Program:
    """A function of tensors.

    Args:
        module: computes it; takes and returns tensors in order, and is in eval mode.
        inputs: of the module.
        outputs: of the module.
        examples: inputs of the module, whose open sizes are all greater than one.
        longest: the most that a named size other than the batch may be; none is without an end.
        calibration: batches of inputs that show what values occur, for quantization.
    """

    module: nn.Module
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    examples: Inputs
    longest: Mapping[str, int] = field(default_factory=dict)
    calibration: Sequence[Inputs] = ()

    def to_json(self) -> dict[str, Any]:
        """As it stands in a manifest."""
        sides = {"inputs": self.inputs, "outputs": self.outputs}
        return {side: [spec.to_json() for spec in specs] for side, specs in sides.items()}

    def export(
        self, graph: nn.Module | None = None, *, most: Mapping[str, int] | None = None
    ) -> torch.export.ExportedProgram:
        """The program of torch.export, with its open sizes.

        Args:
            graph: another module that computes it, as quantization makes one.
            most: upper bounds of open sizes that have none, for targets that need them; a batch
                of at most one is no open size.
        """
        bounds, least = {**(most or {}), **self.longest}, {"past": 0}
        is_single = bounds.get("batch") == 1
        dims: dict[str, Any] = {}

        def dim(size: str) -> Any:
            factor, name = factor_and_name(size)
            if name not in dims:
                limit = {"max": bounds[name]} if name in bounds else {}
                dims[name] = torch.export.Dim(name, min=least.get(name, 1), **limit)
            return dims[name] if factor == 1 else factor * dims[name]

        shapes = tuple(
            {
                axis: dim(size)
                for axis, size in enumerate(spec.shape)
                if isinstance(size, str) and not (is_single and size == "batch")
            }
            for spec in self.inputs
        )
        module = self.module if graph is None else _Tensors(graph)
        examples = tuple((x[:1] if is_single else x).contiguous() for x in self.examples)
        return torch.export.export(module, examples, dynamic_shapes=(shapes,))


def programs_of(
    module: nn.Module,
    inputs: Inputs,
    *,
    calibration: Sequence[Inputs] = (),
) -> dict[str, Program]:
    """The programs of a plain network, by their names.

    Args:
        module: extracted, in eval mode.
        inputs: samples of what its `forward` takes, (B, ...) each.
        calibration: more of such inputs, in batches.
    """
    examples = tuple(torch.cat([x, x])[:2] if len(x) == 1 else x[:2] for x in inputs)
    if isinstance(module, EncoderDecoder):
        source_BS, target_BT = examples
        return _translator(module, source_BS, target_BT)
    if isinstance(module, CausalLanguageModel):
        return {"decoder": _language_model(module, examples[0])}
    return {"model": _network(module, examples, calibration)}


class _Tensors(nn.Module):
    """A function of a network, from tensors to tensors."""

    def __init__(self, network: nn.Module, function: Callable[..., Any] | None = None) -> None:
        super().__init__()
        self.network = network
        self.function = function or network.__call__
        self.training = False  # the network's mode, which a graph of torch cannot be put in

    def forward(self, *tensors: Tensor) -> Any:
        """All inputs in order -> all outputs in order."""
        return self.function(*tensors)


def _network(module: nn.Module, examples: Inputs, calibration: Sequence[Inputs]) -> Program:
    """Images are of one size; sequences of token ids, (B, T), are of any length."""
    reads_tokens = all(x.ndim == 2 and not x.is_floating_point() for x in examples)
    sizes = ("batch", "tokens") if reads_tokens else ("batch",)
    names = ["input"] if len(examples) == 1 else _argument_names(module, len(examples))
    with torch.inference_mode():
        output = module(*examples)
    longest = {}
    if isinstance(module, CausalTransformer | TextClassifier):  # has so many positions
        longest = {"tokens": module.positions.num_embeddings}
    is_per_token = reads_tokens and output.ndim > 2
    return Program(
        module=_Tensors(module),
        inputs=tuple(
            TensorSpec.of(name, x, *sizes) for name, x in zip(names, examples, strict=True)
        ),
        outputs=(TensorSpec.of("output", output, *(sizes if is_per_token else ("batch",))),),
        examples=examples,
        longest=longest,
        calibration=calibration,
    )


def _argument_names(module: nn.Module, count: int) -> list[str]:
    """Names of the first arguments of `forward`, without the legend of their shapes."""
    names = list(inspect.signature(module.forward).parameters)[:count]
    return [re.sub(r"_[A-Z0-9]+$", "", name) for name in names]


def _flat(cache: Sequence[KeysValues]) -> Inputs:
    return tuple(tensor for pair in cache for tensor in pair)


def _paired(tensors: Sequence[Tensor]) -> tuple[KeysValues, ...]:
    return tuple(KeysValues(*pair) for pair in zip(tensors[::2], tensors[1::2], strict=True))


def _named(kind: str, tensors: Sequence[Tensor], *sizes: Size) -> list[TensorSpec]:
    """Specs of a flat cache: KIND_keys_0, KIND_values_0, KIND_keys_1, ..."""
    return [
        TensorSpec.of(f"{kind}_{('keys', 'values')[i % 2]}_{i // 2}", tensor, *sizes)
        for i, tensor in enumerate(tensors)
    ]


def _language_model(module: CausalLanguageModel, tokens_BT: Tensor) -> Program:
    def step(tokens_BT: Tensor, *past: Tensor) -> Inputs:
        logits_BTV, cache = module.decode(tokens_BT, _paired(past))
        return (logits_BTV, *_flat(cache))

    with torch.inference_mode():
        logits_BTV, cache = module.decode(tokens_BT[:, :_NUM_PAST])
    past = _flat(cache)
    return Program(
        module=_Tensors(module, step),
        inputs=(
            TensorSpec.of("tokens", tokens_BT, "batch", "tokens"),
            *_named("past", past, "batch", "past"),
        ),
        outputs=(
            TensorSpec.of("logits", logits_BTV, "batch", "tokens"),
            *_named("all", past, "batch", "past+tokens"),
        ),
        examples=(tokens_BT[:, _NUM_PAST:], *(tensor.clone() for tensor in past)),
    )


def _translator(module: EncoderDecoder, source_BS: Tensor, target_BT: Tensor) -> dict[str, Program]:
    num_layers = len(module.decoder)

    def encode(source_BS: Tensor) -> Inputs:
        state = module.encode(source_BS)
        return (state.source_mask_BS, *_flat(state.memory))

    def step(target_BT: Tensor, mask_BS: Tensor, *memory_and_past: Tensor) -> Inputs:
        memory, past = memory_and_past[: 2 * num_layers], memory_and_past[2 * num_layers :]
        state = TranslationState(mask_BS, _paired(memory), _paired(past))
        logits_BTV, state = module.decode(target_BT, state)
        return (logits_BTV, *_flat(state.past))

    with torch.inference_mode():
        state = module.encode(source_BS)
        logits_BTV, after = module.decode(target_BT[:, :_NUM_PAST], state)
    memory, past = _flat(state.memory), _flat(after.past)
    counts = [cast(DecoderLayer, layer).num_attended for layer in module.decoder]
    mask_spec = TensorSpec.of("source_mask", state.source_mask_BS, "batch", "source")
    memory_specs = [
        TensorSpec(
            spec.name, ("batch", _times(counts[i // 2], "source"), spec.shape[2]), spec.dtype
        )
        for i, spec in enumerate(_named("memory", memory))
    ]
    return {
        "encoder": Program(
            module=_Tensors(module, encode),
            inputs=(TensorSpec.of("source", source_BS, "batch", "source"),),
            outputs=(mask_spec, *memory_specs),
            examples=(source_BS,),
        ),
        "decoder": Program(
            module=_Tensors(module, step),
            inputs=(
                TensorSpec.of("target", target_BT, "batch", "tokens"),
                mask_spec,
                *memory_specs,
                *_named("past", past, "batch", "past"),
            ),
            outputs=(
                TensorSpec.of("logits", logits_BTV, "batch", "tokens"),
                *_named("all", past, "batch", "past+tokens"),
            ),
            examples=tuple(
                tensor.clone()
                for tensor in (target_BT[:, _NUM_PAST:], state.source_mask_BS, *memory, *past)
            ),
        ),
    }


def _times(factor: int, name: str) -> str:
    return name if factor == 1 else f"{factor}*{name}"
