"""How encoders of texts are laid out: BERT, RoBERTa, DistilBERT.

Shape legend: T tokens, C features of a token.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from nasbench.errors import RequestError
from nasbench.supernet.convert.layout import (
    Config,
    Layout,
    State,
    check_tokens,
    labels_of,
    read_keys,
    write_keys,
)
from nasbench.supernet.transformer import StackShape


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
        """RequestError for another variant."""
        kind = config.get("position_embedding_type", "absolute")
        if kind != "absolute" or config.get("is_decoder"):
            raise RequestError(
                "only encoders with absolute positions can be converted, but config.json has "
                f"position_embedding_type '{kind}' and is_decoder {bool(config.get('is_decoder'))}"
            )

    def spec(
        self, config: Config, shapes: Mapping[str, tuple[int, ...]], asked: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What a configuration says of our spec, but for its stack."""
        padding_id = int(self.setting(config, "padding_id"))
        most = int(self.setting(config, "max_positions")) - self.first_position(padding_id)
        vocab_size = int(self.setting(config, "vocab_size"))
        check_tokens(vocab_size, most, asked)
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
        """Our settings outside of the stack."""
        return {
            "vocab_size": spec.vocab_size,
            "max_positions": spec.max_length + self.first_position(spec.padding_id),
            "padding_id": spec.padding_id,
        }

    def config(self, spec: Any, shape: StackShape) -> dict[str, Any]:
        """config.json of a plain network whose blocks are all alike."""
        found = {**super().config(spec, shape), **labels_of(spec)}
        return found | ({"type_vocab_size": self.num_segments} if self.num_segments else {})

    def read_others(self, theirs: State, spec: Any) -> State:
        """Take what lies in another form out of their weights."""
        first = self.first_position(spec.padding_id)
        table_TC = theirs.pop("embeddings.position_embeddings.weight")
        positions_TC = table_TC[first : first + spec.max_length]
        if self.num_segments:
            positions_TC = positions_TC + theirs.pop("embeddings.token_type_embeddings.weight")[0]
        keys = read_keys(theirs, self, self.key, max(spec.stack.depths))
        return {"positions.weight": positions_TC, **keys}

    def write_others(self, ours: State, spec: Any, depth: int) -> State:
        """Take what lies in another form out of our weights."""
        positions_TC = ours.pop("positions.weight")
        first, (_, channels) = self.first_position(spec.padding_id), positions_TC.shape
        table_TC = torch.cat([positions_TC.new_zeros(first, channels), positions_TC])
        found = {"embeddings.position_embeddings.weight": table_TC}
        if self.num_segments:
            segments = positions_TC.new_zeros(self.num_segments, channels)
            found["embeddings.token_type_embeddings.weight"] = segments
        return found | write_keys(ours, self, self.key, depth)


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
        """The row of the position table that a text begins with."""
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
