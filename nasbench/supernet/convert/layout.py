"""How one of Hugging Face's architectures is laid out, and which of our families computes the same.

A layout names a configuration's settings and where each weight of our plain networks lies in a file
of theirs; both ways, so that what was converted can go back. What is only another form of the same
function is folded, and unfolded with zeros:

    segments        single texts are of segment 0, whose embedding goes into the positions'
    keys' biases    add the same number to all scores of a query, which softmax ignores
    RoBERTa         counts positions from behind the padding's id; ours from 0
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

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

    def check(self, config: Config) -> None:  # noqa: B027 - most have no variants
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
                found |= taken(left, place, ours)
        try:
            for ours, place in self.modules.items():
                found |= taken(left, place, ours)
            for layer in range(max(spec.stack.depths)):
                for ours, place in self.block_modules.items():
                    place = self.block.format(layer) + place
                    found |= taken(left, place, f"stack.{layer}.{ours}")
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
            full_name = self.body + unknown[0] if of_head else unknown[0]
            raise RequestError(
                f"the pre-trained weights have '{full_name}', which this kind of network has no "
                "place for"
            )
        return found

    @abstractmethod
    def read_others(self, theirs: State, spec: Any) -> State:
        """Take what lies in another form out of their weights; KeyError if it is missing."""

    def write(self, ours: Mapping[str, Tensor], spec: Any, depth: int) -> State:
        """Their weights of our plain network of that depth."""
        left = dict(ours)
        found: State = {}
        of_head: State = {}
        for module, places in self.heads.items():
            of_head |= taken(left, module, places[0])
        for module, place in self.modules.items():
            found |= taken(left, module, place)
        for layer in range(depth):
            for module, place in self.block_modules.items():
                place = self.block.format(layer) + place
                found |= taken(left, f"stack.{layer}.{module}", place)
        found |= self.write_others(left, spec, depth)
        assert not left, f"no place for {', '.join(left)}"
        whole = {f"{self.body}{name}": tensor for name, tensor in found.items()} | of_head
        return {name: tensor.contiguous() for name, tensor in whole.items()}

    @abstractmethod
    def write_others(self, ours: State, spec: Any, depth: int) -> State:
        """Take what lies in another form out of our weights."""


def taken(source: State, module: str, new_name: str) -> State:
    """Take a module's weight, and its bias if it has one, out of a state, under another name."""
    names = [f"{module}.weight"]
    if f"{module}.bias" in source:
        names.append(f"{module}.bias")
    return {new_name + name.removeprefix(module): source.pop(name) for name in names}


def read_keys(theirs: State, layout: Layout, module: str, depth: int) -> State:
    """Take the keys' weights out of theirs, and their biases away."""
    found = {}
    for layer in range(depth):
        place = layout.block.format(layer) + module
        found[f"stack.{layer}.attention.key.weight"] = theirs.pop(f"{place}.weight")
        theirs.pop(f"{place}.bias", None)
    return found


def write_keys(ours: State, layout: Layout, module: str, depth: int) -> State:
    """Take the keys' weights out of ours, with biases of zero."""
    found: State = {}
    for layer in range(depth):
        key_OI = ours.pop(f"stack.{layer}.attention.key.weight")
        place = layout.block.format(layer) + module
        found |= {f"{place}.weight": key_OI, f"{place}.bias": key_OI.new_zeros(len(key_OI))}
    return found


def labels_of(spec: Any) -> dict[str, Any]:
    """What says how many classes there are."""
    names = {str(label): f"LABEL_{label}" for label in range(spec.num_classes)}
    return {"id2label": names, "label2id": {name: int(label) for label, name in names.items()}}


def check_tokens(vocab_size: int, most: int, asked: Mapping[str, Any]) -> None:
    """RequestError where the data has other tokens, or longer texts."""
    if asked.get("vocab_size", 0) > vocab_size:
        raise RequestError(
            f"the data has a vocabulary of {asked['vocab_size']} tokens, and the pre-trained "
            f"network one of {vocab_size}; use the tokenizer of its folder"
        )
    if asked.get("max_length", 1) > most:
        raise RequestError(
            f"the data's texts have up to {asked['max_length']} tokens, and the pre-trained "
            f"network reads {most}; lower task.options.max_length"
        )
