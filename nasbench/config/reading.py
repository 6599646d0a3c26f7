"""From YAML to sections, with one sentence for what does not fit."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from nasbench.config.sections import RunConfig, Section
from nasbench.errors import RequestError, closest, without_passwords

S = TypeVar("S", bound=Section)


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run's YAML file.

    Args:
        path: the file.
        overrides: `section.setting=value` each, the value in YAML's notation.

    Raises:
        RequestError: if the file is missing or not YAML, or a setting is unknown or unfit.
    """
    content = read_yaml(path)
    for override in overrides:
        set_setting(content, *parse_override(override))
    return parse_config(content, source=str(path))


def parse_config(content: Mapping[str, Any], source: str = "configuration") -> RunConfig:
    """Validate a configuration that was read from `source`; RequestError says what is wrong."""
    return validated(RunConfig, content, source)


def validated(model: type[S], content: Mapping[str, Any], source: str) -> S:
    """Content that was read from `source`, as a section; RequestError says what is wrong."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise RequestError(without_passwords(f"{source}: {_sentence(error, model)}")) from None


def differing_settings(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of the settings in which two identities differ, in order."""
    found = []
    for key in {**a, **b}:
        left, right = a.get(key), b.get(key)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            found += differing_settings(left, right, f"{prefix}{key}.")
        elif left != right:
            found.append(f"{prefix}{key}")
    return found


def read_yaml(path: Path) -> dict[str, Any]:
    """The settings in a YAML file; RequestError if it is missing or holds none."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RequestError(f"there is no configuration file '{path}'") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"cannot read the configuration file '{path}': {error}") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> dict[str, Any]:
    """The settings in a text that was read from `source`; RequestError if it holds none."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise RequestError(f"'{source}' is not valid YAML: {problem}") from None
    if not isinstance(content, dict):
        raise RequestError(f"'{source}' holds no settings; expected sections such as 'task:'")
    return content


def parse_override(override: str) -> tuple[str, Any]:
    """Name and value of `section.setting=value`."""
    name, separator, text = override.partition("=")
    if not separator or not name.strip():
        raise RequestError(f"cannot read '{override}'; write section.setting=value")
    try:
        return name.strip(), yaml.safe_load(text)
    except yaml.YAMLError:
        raise RequestError(f"cannot read the value in '{override}'") from None


def set_setting(content: dict[str, Any], name: str, value: Any) -> None:
    """Set `section.setting` in what `read_yaml` gave; sections that it lacks are made."""
    *sections, setting = name.split(".")
    for section in sections:
        content = content.setdefault(section, {})
        if not isinstance(content, dict):
            raise RequestError(f"cannot set '{name}': '{section}' is no section")
    content[setting] = value


def _sentence(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem that pydantic found, as one sentence for a person."""
    problems = error.errors(include_url=False)
    first = problems[0]
    *sections, setting = [str(part) for part in first["loc"]] or ["the configuration"]
    section = ".".join(sections)
    where = section or "the configuration"
    if first["type"] == "extra_forbidden":
        near = closest(setting, _settings_of(model, sections))
        hint = f"; did you mean '{near}'?" if near else _possible(model, sections)
        sentence = f"{where} has no setting '{setting}'{hint}"
    elif first["type"] == "missing":
        sentence = f"{where} lacks the setting '{setting}'"
    elif first["type"] == "value_error":
        sentence = f"{section + '.' if section else ''}{setting}: {first['ctx']['error']}"
    else:
        message = first["msg"][0].lower() + first["msg"][1:]
        sentence = f"{'.'.join([*sections, setting])} is {first['input']!r}: {message}"
    others = len(problems) - 1
    return sentence + (f" (and {others} more)" if others else "")


def _settings_of(model: type[BaseModel], sections: Sequence[str]) -> list[str]:
    for section in sections:
        if section not in model.model_fields:
            return []
        annotation: Any = model.model_fields[section].annotation
        kinds = [kind for kind in (annotation, *get_args(annotation)) if _is_section(kind)]
        if not kinds:
            return []
        model = kinds[0]
    return list(model.model_fields)


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _possible(model: type[BaseModel], sections: Sequence[str]) -> str:
    names = _settings_of(model, sections)
    return f"; possible: {', '.join(names)}" if names else ""
