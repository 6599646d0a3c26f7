"""Running an exported file on a sample that a person has, to try what is shipped.

Everything needed lies in the export's folder: no run, no supernet, no task is read.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError
from torch import Tensor

from nasbench.errors import RequestError, WorkError, unknown_name
from nasbench.export import EXPORTERS
from nasbench.export.manifest import MANIFEST, sha256_of
from nasbench.export.programs import TensorSpec
from nasbench.tasks.decoding import beam_search, greedy_search
from nasbench.tasks.image_folder import read_image
from nasbench.tasks.text import TOKENIZER, load_tokenizer

_PREFERRED = ("onnx", "pt2", "openvino", "executorch", "safetensors")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _ImageForm(_Part):
    kind: Literal["image"]
    center: float = Field(gt=0, le=1)
    classes: tuple[str, ...] = Field(min_length=1)


class _TextForm(_Part):
    kind: Literal["text"]
    max_length: PositiveInt
    classes: tuple[str, ...] = Field(min_length=1)


class _PromptForm(_Part):
    kind: Literal["prompt"]


class _SentenceForm(_Part):
    kind: Literal["sentence"]
    begin_id: int
    end_id: int
    max_length: PositiveInt
    beam_size: PositiveInt


_Form = Annotated[_ImageForm | _TextForm | _PromptForm | _SentenceForm, Field(discriminator="kind")]


class _Tensor(BaseModel):
    name: str
    shape: tuple[int | str, ...]
    dtype: str


class _Program(BaseModel):
    inputs: tuple[_Tensor, ...] = Field(min_length=1)


class _File(BaseModel):
    target: str = ""
    sha256: str


class _Manifest(BaseModel):
    """What is read of an export's manifest."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    input_form: _Form
    programs: dict[str, _Program] = Field(min_length=1)
    files: dict[str, _File]

    def inputs(self) -> dict[str, tuple[TensorSpec, ...]]:
        """Name of a program -> its inputs."""
        return {
            name: tuple(TensorSpec(**spec.model_dump()) for spec in program.inputs)
            for name, program in self.programs.items()
        }


def infer(
    export: Path, sample: str, target: str | None = None, *, max_new_tokens: int = 64
) -> dict[str, float] | str:
    """What an exported file says of a sample.

    Args:
        export: a folder that `export_subnetwork` wrote.
        sample: for networks that see images, the path of one, which is cropped, scaled and turned
            grey as the task's images were; for the others, a text.
        target: of the export; None takes the first that it has of onnx, pt2, openvino, executorch
            and safetensors.
        max_new_tokens: that a language model writes.

    Returns:
        Of a classifier, the probability of each class, the most probable first; of a language
        model, what follows the text; of a translator, the translation.

    Raises:
        RequestError: if there is no such export or image, the export does not say how a sample
            becomes an input, or a file is not the one that was verified.
        MissingExtraError: if the target's runtime is not installed.
    """
    manifest = _read_manifest(export)
    form = manifest.input_form
    network = _open(export, manifest, target)
    with torch.inference_mode():
        if isinstance(form, _ImageForm):
            (image,) = next(iter(manifest.programs.values())).inputs
            output_1K = network(_image(sample, form, image.shape))
            return _by_probability(output_1K[0], form.classes)
        tokenizer = _tokenizer(export, manifest)
        if isinstance(form, _TextForm):
            tokenizer.enable_truncation(form.max_length)
            return _by_probability(network(_ids(tokenizer, sample))[0], form.classes)
        if isinstance(form, _PromptForm):
            new_1N = greedy_search(network, _ids(tokenizer, sample), max_new_tokens=max_new_tokens)
            return str(tokenizer.decode(new_1N[0].tolist()))
        source_1S = torch.cat([_ids(tokenizer, sample), torch.tensor([[form.end_id]])], dim=1)
        found = beam_search(
            network,
            torch.tensor([[form.begin_id]]),
            network.encode(source_1S),
            max_new_tokens=form.max_length,
            end_id=form.end_id,
            beam_size=form.beam_size,
        )
        return str(tokenizer.decode(found.tokens_BN[0].tolist()))


def _open(export: Path, manifest: _Manifest, target: str | None) -> Any:
    """The network of a target, whose files are as they were verified."""
    targets = {file.target for file in manifest.files.values()} - {""}
    possible = [name for name in _PREFERRED if name in targets] + sorted(targets - {*_PREFERRED})
    if not possible:
        raise RequestError(f"'{export}' holds no network; export one with: nasbench export RUN")
    chosen = target or possible[0]
    if chosen not in possible:
        raise unknown_name("target of this export", chosen, possible)
    if target is None and chosen not in EXPORTERS:  # a stranger's manifest imports nothing
        raise unknown_name("export target", chosen, EXPORTERS)
    for name, file in manifest.files.items():
        if file.target == chosen:
            _check_unchanged(export / Path(name).name, file.sha256)
    return EXPORTERS[chosen]().load(export, manifest.inputs())


def _image(sample: str, form: _ImageForm, shape: tuple[int | str, ...]) -> Tensor:
    if len(shape) != 4 or not all(isinstance(size, int) for size in shape[1:]):
        raise RequestError(f"images are no input of the shape {list(shape)}")
    if not Path(sample).is_file():
        raise RequestError(f"there is no image '{sample}'")
    try:
        return read_image(
            Path(sample),
            image_size=int(shape[2]),
            channels=int(shape[1]),
            center=form.center,
        )
    except WorkError as error:
        raise RequestError(str(error)) from None


def _tokenizer(export: Path, manifest: _Manifest) -> Any:
    path = export / TOKENIZER
    if TOKENIZER not in manifest.files:
        raise RequestError(f"'{export}' reads text, but its manifest names no {TOKENIZER}")
    _check_unchanged(path, manifest.files[TOKENIZER].sha256)
    return load_tokenizer(path)


def _ids(tokenizer: Any, text: str) -> Tensor:
    """Token ids (1, T)."""
    ids = tokenizer.encode(text).ids
    if not ids:
        raise RequestError("the text is empty; give at least one word")
    return torch.tensor([ids])


def _by_probability(logits_K: Tensor, classes: tuple[str, ...]) -> dict[str, float]:
    probabilities = logits_K.double().softmax(dim=0).tolist()
    if len(probabilities) != len(classes):
        raise RequestError(
            f"the network tells {len(probabilities)} classes apart, but its manifest names "
            f"{len(classes)}"
        )
    found = dict(zip(classes, probabilities, strict=True))
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _read_manifest(export: Path) -> _Manifest:
    path = export / MANIFEST
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RequestError(
            f"'{export}' is no export: it has no manifest.json; give RUN/export/ID"
        ) from None
    except (OSError, ValueError) as error:
        raise RequestError(f"cannot read '{path}': {' '.join(str(error).split())}") from None
    if isinstance(content, dict) and content.get("input_form") is None:
        raise RequestError(
            f"'{export}' does not say how a sample becomes an input; possible are exports of tasks "
            "with images or text, written by this version"
        )
    try:
        return _Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RequestError(f"cannot read '{path}': {where}: {first['msg']}") from None


def _check_unchanged(path: Path, sha256: str) -> None:
    try:
        found = sha256_of(path)
    except OSError as error:
        raise RequestError(f"cannot read '{path}': {error.strerror}") from None
    if found != sha256:
        raise RequestError(f"'{path}' is not the file that was verified when it was exported")
