"""Going back: a sub-network as a folder that `transformers` loads.

    saved = save_huggingface(supernet, architecture, "folder")
    AutoModelForSequenceClassification.from_pretrained("folder")

A configuration of theirs says one number of heads and one feed-forward width for all blocks, and
the heads share out the hidden size. So a sub-network of any depth and hidden size is expressible
there, as long as its blocks are alike and keep as many heads of their size as fill the hidden size;
every other one is saved as a program of torch.export, with the reason.
"""

import json
import logging
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from nasbench.errors import MissingExtraError, RequestError, WorkError
from nasbench.export.programs import programs_of
from nasbench.export.pt2 import Pt2Exporter
from nasbench.folders import replace_folder
from nasbench.space import Choice
from nasbench.supernet.base import Supernet
from nasbench.supernet.convert.folder import CONFIG, WEIGHTS
from nasbench.supernet.convert.layout import Layout
from nasbench.supernet.convert.layouts import layout_of
from nasbench.supernet.transformer import StackShape

_MODEL_TYPES = {"encoder": "bert", "vit": "vit", "gpt2": "gpt2"}  # of what was trained from scratch
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedNetwork:
    """What was written.

    Args:
        kind: "huggingface", a folder for `from_pretrained`; "pt2", with a program in it.
        reason: which of the two, and why, as a sentence.
        largest_difference: of any output of the example inputs from the supernet's.
    """

    kind: Literal["huggingface", "pt2"]
    reason: str
    largest_difference: float


def save_huggingface(
    supernet: Supernet[Any],
    architecture: Mapping[str, Choice],
    folder: str | Path,
    *,
    tolerance: float = 1e-4,
) -> SavedNetwork:
    """Save a sub-network for `transformers` where that is possible, else as a program.

    What is written is loaded again and compared with the supernet's active sub-network. The
    tokenizer of a converted network goes with it.

    Args:
        supernet: of the families `encoder`, `vit` and `gpt2`, converted or not.
        architecture: which sub-network; it is the active one afterwards.
        folder: a new or empty one.
        tolerance: largest allowed difference of any output.

    Raises:
        RequestError: for a supernet of another family, or a folder that holds something.
        MissingExtraError: if the package `transformers` is not installed.
        WorkError: if what was written computes something else; nothing is left then.
    """
    folder = Path(folder)
    family = supernet.settings["family"]
    if family not in _MODEL_TYPES:
        raise RequestError(
            f"a sub-network of the family '{family}' is no Hugging Face model; possible: "
            f"{', '.join(_MODEL_TYPES)}"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RequestError(f"'{folder}' holds something; name a new folder")
    origin = supernet.settings.get("pretrained", {})
    model_type = origin.get("model_type", _MODEL_TYPES[family])
    layout = layout_of(model_type)
    supernet.eval().activate(architecture)
    module, shape = supernet.extract(architecture), supernet.shape
    (inputs,) = supernet.example_inputs(2)
    with torch.inference_mode():
        expected = supernet(inputs)
    why_not = _why_not(
        shape, layout.model_class, has_bottlenecks=supernet.spec.stack.has_bottlenecks
    )
    partial = folder.with_name(f".partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        if why_not is None:
            kind: Literal["huggingface", "pt2"] = "huggingface"
            reason = f"saved as a {layout.model_class}, as all its blocks are alike"
            _write(partial, layout, supernet.spec, shape, module, model_type)
            _copy_tokenizer(origin.get("folder"), partial)
            found = _computed_by_transformers(partial, layout, inputs, supernet.spec)
        else:
            kind = "pt2"
            reason = f"saved as a program of torch.export, as {why_not}"
            exporter, programs = Pt2Exporter(), programs_of(module, (inputs,))
            exporter.write(module, programs, partial)
            opened = {name: program.inputs for name, program in programs.items()}
            found = exporter.load(partial, opened)(inputs)
        difference = float((found - expected).abs().max())
        if not difference <= tolerance:
            raise WorkError(
                f"what was saved differs from the supernet's active sub-network by up to "
                f"{difference:.3g}, more than the tolerance {tolerance:g}; nothing was written"
            )
        replace_folder(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return SavedNetwork(kind=kind, reason=reason, largest_difference=difference)


def _why_not(shape: StackShape, model_class: str, *, has_bottlenecks: bool) -> str | None:
    """Why a sub-network has no such configuration; None where it has."""
    first = shape.blocks[0]
    if has_bottlenecks:
        return f"a {model_class} has no bottlenecks"
    for what, name in (
        ("heads", "numbers of heads"),
        ("feed_forward_width", "feed-forward widths"),
    ):
        values = [getattr(block, what) for block in shape.blocks]
        if len(set(values)) > 1:
            told = [value.number if what == "heads" else value for value in values]
            return (
                f"its blocks have different {name} ({', '.join(map(str, told))}), and a "
                f"{model_class} has one for all"
            )
    if first.heads.width != shape.hidden_size:
        return (
            f"its blocks have {first.heads.number} heads of {first.heads.size} features, and those "
            f"of a {model_class} fill the hidden size of {shape.hidden_size}"
        )
    return None


def _write(
    folder: Path, layout: Layout, spec: Any, shape: StackShape, module: nn.Module, model_type: str
) -> None:
    """Configuration and weights."""
    config = {"model_type": model_type, **layout.config(spec, shape)}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    weights = layout.write(module.state_dict(), spec, len(shape.blocks))
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def _copy_tokenizer(source: str | None, folder: Path) -> None:
    for name in _TOKENIZER_FILES if source is not None else ():
        path = Path(str(source)).expanduser() / name
        if path.is_file():
            shutil.copyfile(path, folder / name)


def _computed_by_transformers(folder: Path, layout: Layout, inputs: Tensor, spec: Any) -> Tensor:
    """The logits of the saved model, as their own code loads it."""
    with _quiet():
        try:
            import transformers
        except ImportError:
            raise MissingExtraError(
                "transformers", "huggingface", "saving a Hugging Face model"
            ) from None
        kind = getattr(transformers, layout.model_class)
        model = kind.from_pretrained(folder, local_files_only=True).eval()
        masks = {}
        if layout.family == "encoder":
            masks = {"attention_mask": (inputs != spec.padding_id).long()}
        with torch.inference_mode():
            return model(inputs, **masks).logits


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the package says while it is imported and loads a model."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
