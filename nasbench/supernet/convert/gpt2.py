"""How GPT-2 is laid out: its query, key and value are one layer, and its weights are (I, O).

Shape legend: O outputs, I inputs.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from nasbench.errors import RequestError
from nasbench.supernet.convert.choices import Sizes
from nasbench.supernet.convert.layout import Config, Layout, State, check_tokens
from nasbench.supernet.transformer import StackShape


class Gpt2(Layout):
    """GPT-2 (Radford et al., 2019), with its language-modeling head."""

    family = "gpt2"
    body = "transformer."
    norm_first = True
    is_causal = True
    model_class = "GPT2LMHeadModel"
    settings: ClassVar[Mapping[str, tuple[str, Any]]] = {
        "depth": ("n_layer", None),
        "hidden_size": ("n_embd", None),
        "num_heads": ("n_head", None),
        "feed_forward_width": ("n_inner", None),
        "norm_eps": ("layer_norm_epsilon", 1e-5),
        "dropout": ("resid_pdrop", 0.1),
        "activation": ("activation_function", "gelu_new"),
        "vocab_size": ("vocab_size", None),
        "max_positions": ("n_positions", 1024),
    }
    block = "h.{}."
    modules: ClassVar[Mapping[str, str]] = {"tokens": "wte", "norm": "ln_f"}
    block_modules: ClassVar[Mapping[str, str]] = {
        "attention_norm": "ln_1",
        "feed_forward_norm": "ln_2",
    }
    transposed: ClassVar[Mapping[str, str]] = {
        "attention.out": "attn.c_proj",
        "feed_forward.0": "mlp.c_fc",
        "feed_forward.2": "mlp.c_proj",
    }
    heads: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    ignored = (".attn.bias", ".attn.masked_bias", "lm_head.weight")

    def check(self, config: Config) -> None:
        """RequestError for another variant."""
        asked = {
            "scale_attn_weights": True,
            "scale_attn_by_inverse_layer_idx": False,
            "add_cross_attention": False,
            "tie_word_embeddings": True,
        }
        for name, needed in asked.items():
            if config.get(name, needed) != needed:
                raise RequestError(
                    f"only GPT-2 with {name} {needed} can be converted, but config.json has "
                    f"{config[name]}"
                )

    def sizes(self, config: Config) -> Sizes:
        """Of the network that a configuration describes."""
        if config.get("n_inner") is None:  # which says four times the hidden size
            config = {**config, "n_inner": 4 * int(self.setting(config, "hidden_size"))}
        return super().sizes(config)

    def spec(
        self,
        config: Config,
        shapes: Mapping[str, tuple[int, ...]],  # noqa: ARG002 - there is no classifier
        asked: Mapping[str, Any],
    ) -> dict[str, Any]:
        """What a configuration says of our spec, but for its stack."""
        most = int(self.setting(config, "max_positions"))
        vocab_size = int(self.setting(config, "vocab_size"))
        check_tokens(vocab_size, most, asked)
        return {"vocab_size": vocab_size, "max_length": asked.get("max_length", most)}

    def config_of_spec(self, spec: Any) -> dict[str, Any]:
        """Our settings outside of the stack."""
        return {"vocab_size": spec.vocab_size, "max_positions": spec.max_length}

    def config(self, spec: Any, shape: StackShape) -> dict[str, Any]:
        """config.json of a plain network whose blocks are all alike."""
        dropout = spec.stack.dropout
        found = super().config(spec, shape)
        return {**found, "embd_pdrop": dropout, "attn_pdrop": dropout, "tie_word_embeddings": True}

    def read_others(self, theirs: State, spec: Any) -> State:
        """Take what lies in another form out of their weights."""
        found = {"positions.weight": theirs.pop("wpe.weight")[: spec.max_length]}
        for layer in range(max(spec.stack.depths)):
            place, block = self.block.format(layer), f"stack.{layer}."
            fused_OI = theirs.pop(f"{place}attn.c_attn.weight").T
            biases_O = theirs.pop(f"{place}attn.c_attn.bias").chunk(3)
            for name, weight_OI, bias_O in zip(
                ("query", "key", "value"), fused_OI.chunk(3), biases_O, strict=True
            ):
                found[f"{block}attention.{name}.weight"] = weight_OI
                if name != "key":
                    found[f"{block}attention.{name}.bias"] = bias_O
            for ours, module in self.transposed.items():
                found[f"{block}{ours}.weight"] = theirs.pop(f"{place}{module}.weight").T
                found[f"{block}{ours}.bias"] = theirs.pop(f"{place}{module}.bias")
        return found

    def write_others(self, ours: State, spec: Any, depth: int) -> State:  # noqa: ARG002
        """Take what lies in another form out of our weights."""
        found = {"wpe.weight": ours.pop("positions.weight")}
        for layer in range(depth):
            place, attention = self.block.format(layer), f"stack.{layer}.attention."
            query_OI, key_OI, value_OI = (
                ours.pop(f"{attention}{name}.weight") for name in ("query", "key", "value")
            )
            query_O, value_O = (ours.pop(f"{attention}{name}.bias") for name in ("query", "value"))
            found |= {
                f"{place}attn.c_attn.weight": torch.cat([query_OI, key_OI, value_OI]).T,
                f"{place}attn.c_attn.bias": torch.cat([query_O, 0 * query_O, value_O]),
            }
            for module, theirs in self.transposed.items():
                name = f"stack.{layer}.{module}"
                found[f"{place}{theirs}.weight"] = ours.pop(f"{name}.weight").T
                found[f"{place}{theirs}.bias"] = ours.pop(f"{name}.bias")
        return found
