"""Reference pages that the program writes itself: its commands, its settings, its registries.

A page has a placeholder such as `<!-- generated: commands -->`, which is replaced when the page is
read, so that it cannot fall behind the code.
"""

import functools
import json
import re
import sys
from collections.abc import Callable
from typing import Any, get_args

import typer
from sphinx.pycode import ModuleAnalyzer
from typer.cli import get_docs_for_click

from nasbench import config
from nasbench.cli import app as command_line
from nasbench.registry import Registry

_PLACEHOLDER = re.compile(r"<!-- generated: ([a-z]+)(?: ([A-Za-z_.:]+))? -->")


def fill(_app: Any, _page: str, source: list[str]) -> None:
    """Replace the placeholders of a page that Sphinx is about to parse."""
    source[0] = _PLACEHOLDER.sub(
        lambda found: _GENERATORS[found[1]](*filter(None, [found[2]])), source[0]
    )


def show_code(
    _app: Any, what: str, _name: str, _object: Any, _options: Any, lines: list[str]
) -> None:
    """Make a literal block of each indented block in the docstring of a module."""
    if what == "module":
        is_indented = [line.startswith("    ") for line in lines]
        for number in range(len(lines) - 1, 1, -1):
            begins = is_indented[number] and not lines[number - 1].strip()
            if begins and not is_indented[number - 2]:
                lines[number - 1 : number] = ["", "::", ""]


def commands() -> str:
    """Every command with its arguments and options, as typer describes them."""
    command = typer.main.get_command(command_line)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="nasbench")
    return text[text.index("\n## ") :]


def settings() -> str:
    """Every section of a run's YAML file: its settings with type, default and meaning."""
    analyzer = ModuleAnalyzer.for_module("nasbench.config.sections")
    analyzer.analyze()
    parts = []
    for name, section in _sections(config.RunConfig):
        rows = ["| setting | type | default | meaning |", "|---|---|---|---|"]
        schemas = section.model_json_schema()["properties"]
        for setting, field in section.model_fields.items():
            if _section_of(field.annotation) is None:
                meaning = " ".join(analyzer.attr_docs.get((section.__name__, setting), []))
                schema = schemas[setting]
                cells = (f"`{setting}`", _kind(schema), _default(schema), meaning.strip())
                rows.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
        heading = f"## `{name}`" if name else "## At the top"
        parts += [heading, (section.__doc__ or "").strip(), "\n".join(rows)]
    return "\n\n".join(parts)


def registry(place: str) -> str:
    """The entries of a registry, `module:NAME`, and the first paragraph of what each says."""
    entries = Registry[Any]("registry")[place]
    rows = ["| name | what it is |", "|---|---|"]
    rows += [f"| `{name}` | {_summary(entry)} |" for name, entry in entries.items()]
    return "\n".join(rows)


def _summary(entry: Any) -> str:
    """The first paragraph of a docstring; of a family of supernets, that of its module."""
    documented = entry.func if isinstance(entry, functools.partial) else entry
    if not callable(documented):
        documented = sys.modules[entry.supernet.__module__]
    text = (documented.__doc__ or "").strip().split("\n\n")[0]
    return " ".join(text.split()).replace("|", "&#124;")


_GENERATORS: dict[str, Callable[..., str]] = {
    "commands": commands,
    "settings": settings,
    "registry": registry,
}


def _sections(
    model: type[config.Section], name: str = ""
) -> list[tuple[str, type[config.Section]]]:
    """The sections of a configuration with their dotted names, outermost first."""
    found = [(name, model)]
    for setting, field in model.model_fields.items():
        section = _section_of(field.annotation)
        if section is not None:
            found += _sections(section, f"{name}.{setting}".lstrip("."))
    return found


def _section_of(annotation: Any) -> type[config.Section] | None:
    kinds = (annotation, *get_args(annotation))
    return next((k for k in kinds if isinstance(k, type) and issubclass(k, config.Section)), None)


def _kind(schema: dict[str, Any]) -> str:
    """What a setting may be, from its JSON schema."""
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}s"
    bounds = [f"{sign} {schema[name]}" for name, sign in _BOUNDS.items() if name in schema]
    return " ".join([_KINDS[schema["type"]], " and ".join(bounds)]).strip()


_KINDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "`true` or `false`",
    "object": "mapping",
    "null": "`null`",
}
_BOUNDS = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}


def _default(schema: dict[str, Any]) -> str:
    return f"`{json.dumps(schema['default'])}`" if "default" in schema else "*must be given*"
