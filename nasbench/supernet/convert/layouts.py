"""How Hugging Face's architectures are laid out, and which of our families computes the same.

A layout names a configuration's settings and where each weight of our plain networks lies in a file
of theirs; both ways, so that what was converted can go back. What is only another form of the same
function is folded, and unfolded with zeros:

    segments        single texts are of segment 0, whose embedding goes into the positions'
    keys' biases    add the same number to all scores of a query, which softmax ignores
    RoBERTa         counts positions from behind the padding's id; ours from 0

Shape legend: O outputs, I inputs, C features of a token, K side of a patch.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from nasbench.errors import RequestError, unknown_name
from nasbench.supernet.convert.choices import Sizes
from nasbench.supernet.transformer import StackShape

Config = Mapping[str, Any]
State = dict[str, Tensor]

_ACTIVATIONS = {  # theirs -> a name in our ACTIVATIONS
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "swish",
    "swish": "swish",
}
_THEIR_ACTIVATION = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu", "swish": "silu"}


class Layout(ABC):
    """One architecture of theirs.

    Attributes:
        family: of ours.
        body: what the names of weights begin with, where the model has a head.
        settings: our name of a setting -> theirs, and its value where a file leaves it out.
        block: begins the names of a block's weights; has its number.
        modules: the modules outside of blocks, ours -> theirs, of the same weights.
        block_modules: the same inside of a block.
        heads: our modules of the head -> the places where theirs may lie, the first one written.
        ignored: ends of the names of weights that compute nothing here.
        model_class: of a model with its head, in the package `transformers`.
    """

    family: ClassVar[str]
    body: ClassVar[str]
    settings: ClassVar[Mapping[str, tuple[str, Any]]]
    block: ClassVar[str]
    modules: ClassVar[Mapping[str, str]]
    block_modules: ClassVar[Mapping[str, str]]
    heads: ClassVar[Mapping[str, tuple[str, ...]]]
    ignored: ClassVar[tuple[str, ...]] = ()
    norm_first: ClassVar[bool]
    is_causal: ClassVar[bool] = False
    model_class: ClassVar[str]

    # -- settings -------------------------------------------------------------------------------

    def setting(self, config: Config, name: str) -> Any:
        """A setting by our name; RequestError where the file lacks it and there is no default."""
        theirs, default = self.settings[name]
        value = config.get(theirs, default)
        if value is None:
            raise RequestError(f"config.json lacks the setting '{theirs}'")
        return value

    def sizes(self, config: Config) -> Sizes:
        """Of the network that a configuration describes."""
        names = ("depth", "hidden_size", "num_heads", "feed_forward_width")
        return Sizes(**{name: int(self.setting(config, name)) for name in names})

    def stack(self, config: Config) -> dict[str, Any]:
        """What a configuration says of a `StackSpec`, but for its sizes."""
        activation = self.setting(config, "activation")
        if activation not in _ACTIVATIONS:
            raise unknown_name("activation", activation, _ACTIVATIONS)
        return {
            "norm_first": self.norm_first,
            "norm_eps": float(self.setting(config, "norm_eps")),
            "dropout": float(self.setting(config, "dropout")),
            "activation": _ACTIVATIONS[activation],
            "is_causal": self.is_causal,
        }

    def check(self, config: Config) -> None:
        """RequestError for a variant that our family does not compute."""

    @abstractmethod
    def spec(
        self, config: Config, shapes: Mapping[str, tuple[int, ...]], asked: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What a configuration says of our family's spec, but for its stack.

        Args:
            shapes: of the weights in the files.
            asked: fields of the spec that somebody wants otherwise: what the data decides.

        Raises:
            RequestError: where the network cannot be as asked.
        """

    def config(self, spec: Any, shape: StackShape) -> dict[str, Any]:
        """config.json of a plain network whose blocks are all alike."""
        block = shape.blocks[0]
        ours = {
            "depth": len(shape.blocks),
            "hidden_size": shape.hidden_size,
            "num_heads": block.heads.number,
            "feed_forward_width": block.feed_forward_width,
            "norm_eps": spec.stack.norm_eps,
            "dropout": spec.stack.dropout,
            "activation": _THEIR_ACTIVATION[spec.stack.activation],
            **self.config_of_spec(spec),
        }
        found = {self.settings[name][0]: value for name, value in ours.items()}
        return {"architectures": [self.model_class], "dtype": "float32", **found}

    @abstractmethod
    def config_of_spec(self, spec: Any) -> dict[str, Any]:
        """Our settings outside of the stack."""

    # -- weights --------------------------------------------------------------------------------

    def read(self, theirs: Mapping[str, Tensor], spec: Any) -> State:
        """The weights of our plain network; without those of a head that the files lack.

        Raises:
            RequestError: for weights that are missing, or that this layout does not know.
        """
        left = {name.removeprefix(self.body): weight for name, weight in theirs.items()}
        found: State = {}
        for ours, places in self.heads.items():
            in_body = (place.removeprefix(self.body) for place in places)
            place = next((place for place in in_body if f"{place}.weight" in left), None)
            if place is not None:
                found |= _taken(left, place, ours)
        try:
            for ours, place in self.modules.items():
                found |= _taken(left, place, ours)
            for layer in range(max(spec.stack.depths)):
                for ours, place in self.block_modules.items():
                    place = self.block.format(layer) + place
                    found |= _taken(left, place, f"stack.{layer}.{ours}")
            found |= self.read_others(left, spec)
        except KeyError as error:
            raise RequestError(f"the pre-trained weights lack {error}") from None
        of_head = any(name.startswith(self.body) for name in theirs)  # then others are of the head
        unknown = [
            name
            for name in left
            if not name.endswith(self.ignored) and (not of_head or self.body + name in theirs)
        ]
        if unknown:
            raise RequestError(
                f"the pre-trained weights have '{unknown[0]}', which this kind of network has no "
                "place for"
            )
        return found

    @abstractmethod
    def read_others(self, theirs: State, spec: Any) -> State:
        """Take what lies in another form out of their weights; KeyError if it is missing."""

    def write(self, ours: Mapping[str, Tensor], spec: Any, depth: int) -> State:
        """Their weights of our plain network of that depth."""
        left, found, of_head = dict(ours), {}, {}
        for module, places in self.heads.items():
            of_head |= _taken(left, module, places[0])
        for module, place in self.modules.items():
            found |= _taken(left, module, place)
        for layer in range(depth):
            for module, place in self.block_modules.items():
                place = self.block.format(layer) + place
                found |= _taken(left, f"stack.{layer}.{module}", place)
        found |= self.write_others(left, spec, depth)
        assert not left, f"no place for {', '.join(left)}"
        whole = {f"{self.body}{name}": tensor for name, tensor in found.items()} | of_head
        return {name: tensor.contiguous() for name, tensor in whole.items()}

    @abstractmethod
    def write_others(self, ours: State, spec: Any, depth: int) -> State:
        """Take what lies in another form out of our weights."""


def _taken(source: State, module: str, new_name: str) -> State:
    """Take a module's weights out of a state, under another name; a key's bias is no part of it."""
    names = [f"{module}.weight"]
    if f"{module}.bias" in source:
        names.append(f"{module}.bias")
    return {new_name + name.removeprefix(module): source.pop(name) for name in names}


class _OfEncoder(Layout):
    """A post-normalized encoder of texts, with a classifier of its first token."""

    family = "encoder"
    norm_first = False
    pooler_activation: ClassVar[str] = "tanh"
    key: ClassVar[str]
    num_segments: ClassVar[int] = 2

    def first_position(self, _padding_id: int) -> int:
        """The row of the position table that a text begins with."""
        return 0

    def check(self, config: Config) -> None:
        kind = config.get("position_embedding_type", "absolute")
        if kind != "absolute" or config.get("is_decoder"):
            raise RequestError(
                "only encoders with absolute positions can be converted, but config.json has "
                f"position_embedding_type '{kind}' and is_decoder {bool(config.get('is_decoder'))}"
            )

    def spec(
        self, config: Config, shapes: Mapping[str, tuple[int, ...]], asked: Mapping[str, Any]
    ) -> dict[str, Any]:
        padding_id = int(self.setting(config, "padding_id"))
        most = int(self.setting(config, "max_positions")) - self.first_position(padding_id)
        vocab_size = int(self.setting(config, "vocab_size"))
        _check_tokens(vocab_size, most, asked)
        if asked.get("padding_id", padding_id) != padding_id:
            raise RequestError(
                f"the data's token for padding is {asked['padding_id']}, and the pre-trained "
                f"network's is {padding_id}; use the tokenizer of its folder"
            )
        rows = [shapes.get(f"{place}.weight") for place in self.heads["classifier"]]
        num_classes = asked.get("num_classes") or next((r[0] for r in rows if r), None)
        if num_classes is None:
            raise RequestError("the pre-trained network has no classifier; say its num_classes")
        return {
            "vocab_size": vocab_size,
            "max_length": asked.get("max_length", most),
            "num_classes": num_classes,
            "padding_id": padding_id,
            "pooler_activation": self.pooler_activation,
        }

    def config_of_spec(self, spec: Any) -> dict[str, Any]:
        return {
            "vocab_size": spec.vocab_size,
            "max_positions": spec.max_length + self.first_position(spec.padding_id),
            "padding_id": spec.padding_id,
        }

    def config(self, spec: Any, shape: StackShape) -> dict[str, Any]:
        found = super().config(spec, shape)
        return {**found, **_labels(spec), "type_vocab_size": self.num_segments}

    def read_others(self, theirs: State, spec: Any) -> State:
        first = self.first_position(spec.padding_id)
        table_TC = theirs.pop("embeddings.position_embeddings.weight")
        positions_TC = table_TC[first : first + spec.max_length]
        if self.num_segments:
            positions_TC = positions_TC + theirs.pop("embeddings.token_type_embeddings.weight")[0]
        keys = {}
        for layer in range(max(spec.stack.depths)):
            place = self.block.format(layer) + self.key
            keys[f"stack.{layer}.attention.key.weight"] = theirs.pop(f"{place}.weight")
            theirs.pop(f"{place}.bias", None)
        return {"positions.weight": positions_TC, **keys}

    def write_others(self, ours: State, spec: Any, depth: int) -> State:
        positions_TC = ours.pop("positions.weight")
        first, (_, channels) = self.first_position(spec.padding_id), positions_TC.shape
        table_TC = torch.cat([positions_TC.new_zeros(first, channels), positions_TC])
        found = {"embeddings.position_embeddings.weight": table_TC}
        if self.num_segments:
            segments = positions_TC.new_zeros(self.num_segments, channels)
            found["embeddings.token_type_embeddings.weight"] = segments
        for layer in range(depth):
            key_OI = ours.pop(f"stack.{layer}.attention.key.weight")
            place = self.block.format(layer) + self.key
            found |= {f"{place}.weight": key_OI, f"{place}.bias": key_OI.new_zeros(len(key_OI))}
        return found


class Bert(_OfEncoder):
    """BERT (Devlin et al., NAACL 2019), and MiniLM (Wang et al., NeurIPS 2020)."""

    body = "bert."
    model_class = "BertForSequenceClassification"
    settings: ClassVar[Mapping[str, tuple[str, Any]]] = {
        "depth": ("num_hidden_layers", None),
        "hidden_size": ("hidden_size", None),
        "num_heads": ("num_attention_heads", None),
        "feed_forward_width": ("intermediate_size", None),
        "norm_eps": ("layer_norm_eps", 1e-12),
        "dropout": ("hidden_dropout_prob", 0.1),
        "activation": ("hidden_act", "gelu"),
        "vocab_size": ("vocab_size", None),
        "max_positions": ("max_position_embeddings", 512),
        "padding_id": ("pad_token_id", 0),
    }
    block = "encoder.layer.{}."
    modules: ClassVar[Mapping[str, str]] = {
        "tokens": "embeddings.word_embeddings",
        "norm": "embeddings.LayerNorm",
    }
    block_modules: ClassVar[Mapping[str, str]] = {
        "attention.query": "attention.self.query",
        "attention.value": "attention.self.value",
        "attention.out": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "feed_forward.0": "intermediate.dense",
        "feed_forward.2": "output.dense",
        "feed_forward_norm": "output.LayerNorm",
    }
    key = "attention.self.key"
    heads: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "pooler": ("bert.pooler.dense",),
        "classifier": ("classifier",),
    }
    ignored = ("position_ids",)


class Roberta(Bert):
    """RoBERTa (Liu et al., 2019), whose classifier has the pooler's layer in itself."""

    body = "roberta."
    model_class = "RobertaForSequenceClassification"
    settings: ClassVar[Mapping[str, tuple[str, Any]]] = {
        **Bert.settings,
        "padding_id": ("pad_token_id", 1),
    }
    heads: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "pooler": ("classifier.dense", "roberta.pooler.dense"),
        "classifier": ("classifier.out_proj",),
    }

    def first_position(self, padding_id: int) -> int:
        return padding_id + 1


class DistilBert(_OfEncoder):
    """DistilBERT (Sanh et al., 2019): no segments, and a rectified layer before the classifier."""

    body = "distilbert."
    model_class = "DistilBertForSequenceClassification"
    pooler_activation = "relu"
    num_segments = 0
    settings: ClassVar[Mapping[str, tuple[str, Any]]] = {
        "depth": ("n_layers", None),
        "hidden_size": ("dim", None),
        "num_heads": ("n_heads", None),
        "feed_forward_width": ("hidden_dim", None),
        "norm_eps": ("layer_norm_eps", 1e-12),  # which its code has fixed
        "dropout": ("dropout", 0.1),
        "activation": ("activation", "gelu"),
        "vocab_size": ("vocab_size", None),
        "max_positions": ("max_position_embeddings", 512),
        "padding_id": ("pad_token_id", 0),
    }
    block = "transformer.layer.{}."
    modules: ClassVar[Mapping[str, str]] = Bert.modules
    block_modules: ClassVar[Mapping[str, str]] = {
        "attention.query": "attention.q_lin",
        "attention.value": "attention.v_lin",
        "attention.out": "attention.out_lin",
        "attention_norm": "sa_layer_norm",
        "feed_forward.0": "ffn.lin1",
        "feed_forward.2": "ffn.lin2",
        "feed_forward_norm": "output_layer_norm",
    }
    key = "attention.k_lin"
    heads: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "pooler": ("pre_classifier",),
        "classifier": ("classifier",),
    }
    ignored = ("position_ids",)


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
        if config.get("n_inner") is None:  # which says four times the hidden size
            config = {**config, "n_inner": 4 * int(self.setting(config, "hidden_size"))}
        return super().sizes(config)

    def spec(
        self,
        config: Config,
        shapes: Mapping[str, tuple[int, ...]],  # noqa: ARG002 - there is no classifier
        asked: Mapping[str, Any],
    ) -> dict[str, Any]:
        most = int(self.setting(config, "max_positions"))
        vocab_size = int(self.setting(config, "vocab_size"))
        _check_tokens(vocab_size, most, asked)
        return {"vocab_size": vocab_size, "max_length": asked.get("max_length", most)}

    def config_of_spec(self, spec: Any) -> dict[str, Any]:
        return {"vocab_size": spec.vocab_size, "max_positions": spec.max_length}

    def config(self, spec: Any, shape: StackShape) -> dict[str, Any]:
        dropout = spec.stack.dropout
        found = super().config(spec, shape)
        return {**found, "embd_pdrop": dropout, "attn_pdrop": dropout, "tie_word_embeddings": True}

    def read_others(self, theirs: State, spec: Any) -> State:
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


class Vit(Layout):
    """The vision transformer (Dosovitskiy et al., ICLR 2021), with its classifier."""

    family = "vit"
    body = "vit."
    norm_first = True
    model_class = "ViTForImageClassification"
    settings: ClassVar[Mapping[str, tuple[str, Any]]] = {
        **{name: Bert.settings[name] for name in ("depth", "hidden_size", "num_heads")},
        "feed_forward_width": ("intermediate_size", None),
        "norm_eps": ("layer_norm_eps", 1e-12),
        "dropout": ("hidden_dropout_prob", 0.0),
        "activation": ("hidden_act", "gelu"),
        "image_size": ("image_size", 224),
        "patch_size": ("patch_size", 16),
        "in_channels": ("num_channels", 3),
    }
    block = "encoder.layer.{}."
    modules: ClassVar[Mapping[str, str]] = {"norm": "layernorm"}
    block_modules: ClassVar[Mapping[str, str]] = {
        "attention.query": "attention.attention.query",
        "attention.value": "attention.attention.value",
        "attention.out": "attention.output.dense",
        "attention_norm": "layernorm_before",
        "feed_forward.0": "intermediate.dense",
        "feed_forward.2": "output.dense",
        "feed_forward_norm": "layernorm_after",
    }
    key = "attention.attention.key"
    heads: ClassVar[Mapping[str, tuple[str, ...]]] = {"classifier": ("classifier",)}
    ignored = ("mask_token", "pooler.dense.weight", "pooler.dense.bias")

    def spec(
        self, config: Config, shapes: Mapping[str, tuple[int, ...]], asked: Mapping[str, Any]
    ) -> dict[str, Any]:
        found = {name: self.setting(config, name) for name in ("image_size", "in_channels")}
        for name, own in found.items():
            if asked.get(name, own) != own:
                raise RequestError(
                    f"the pre-trained network is for images of {name} {own}, and the data's is "
                    f"{asked[name]}"
                )
        rows = shapes.get("classifier.weight")
        num_classes = asked.get("num_classes") or (rows[0] if rows else None)
        if num_classes is None:
            raise RequestError("the pre-trained network has no classifier; say its num_classes")
        return {
            **found,
            "patch_size": self.setting(config, "patch_size"),
            "num_classes": num_classes,
        }

    def config_of_spec(self, spec: Any) -> dict[str, Any]:
        return {name: getattr(spec, name) for name in ("image_size", "patch_size", "in_channels")}

    def config(self, spec: Any, shape: StackShape) -> dict[str, Any]:
        return {**super().config(spec, shape), **_labels(spec)}

    def read_others(self, theirs: State, spec: Any) -> State:
        place = "embeddings.patch_embeddings.projection"
        found = {
            "patches.weight": theirs.pop(f"{place}.weight").flatten(1),
            "patches.bias": theirs.pop(f"{place}.bias"),
            "class_token": theirs.pop("embeddings.cls_token")[0],
            "positions.weight": theirs.pop("embeddings.position_embeddings")[0],
        }
        for layer in range(max(spec.stack.depths)):
            block, key = f"stack.{layer}.attention.", self.block.format(layer) + self.key
            found[f"{block}key.weight"] = theirs.pop(f"{key}.weight")
            theirs.pop(f"{key}.bias", None)
        return found

    def write_others(self, ours: State, spec: Any, depth: int) -> State:
        place, side = "embeddings.patch_embeddings.projection", spec.patch_size
        found = {
            f"{place}.weight": ours.pop("patches.weight").unflatten(1, (-1, side, side)),
            f"{place}.bias": ours.pop("patches.bias"),
            "embeddings.cls_token": ours.pop("class_token")[None],
            "embeddings.position_embeddings": ours.pop("positions.weight")[None],
        }
        for layer in range(depth):
            key_OI = ours.pop(f"stack.{layer}.attention.key.weight")
            place = self.block.format(layer) + self.key
            found |= {f"{place}.weight": key_OI, f"{place}.bias": key_OI.new_zeros(len(key_OI))}
        return found


LAYOUTS: dict[str, Layout] = {
    "bert": Bert(),
    "roberta": Roberta(),
    "distilbert": DistilBert(),
    "gpt2": Gpt2(),
    "vit": Vit(),
}
"""model_type in config.json -> its layout."""


def layout_of(model_type: object) -> Layout:
    """The layout of a model type; RequestError for one that we do not know."""
    if model_type not in LAYOUTS:
        raise unknown_name("model_type in config.json", model_type, LAYOUTS)
    return LAYOUTS[str(model_type)]


def _labels(spec: Any) -> dict[str, Any]:
    """What says how many classes there are."""
    names = {str(label): f"LABEL_{label}" for label in range(spec.num_classes)}
    return {"id2label": names, "label2id": {name: int(label) for label, name in names.items()}}


def _check_tokens(vocab_size: int, most: int, asked: Mapping[str, Any]) -> None:
    """RequestError where the data has other tokens, or longer texts."""
    if asked.get("vocab_size", 0) > vocab_size:
        raise RequestError(
            f"the data has a vocabulary of {asked['vocab_size']} tokens, and the pre-trained "
            f"network one of {vocab_size}; use the tokenizer of its folder"
        )
    if asked.get("max_length", 1) > most:
        raise RequestError(
            f"the data's texts have up to {asked['max_length']} tokens, and the pre-trained network "
            f"reads {most}; lower task.options.max_length"
        )
