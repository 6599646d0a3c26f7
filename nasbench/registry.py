"""Registries: the extension points, where a name in a configuration finds its implementation.

An entry is an object or the text `module:object`, imported when it is first asked for, so that
listing and checking names never imports torch, pymoo or ray. A key that itself has the form
`module:object` needs no registration: users name their own file in the YAML that way.
"""

import importlib
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar, cast

from nasbench.errors import RequestError, unknown_name

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """A mapping from names to implementations of one kind.

    Args:
        kind: what the entries are, for error messages ("search algorithm").
        entries: name -> implementation, or `module:object` to import on first use.
    """

    def __init__(self, kind: str, entries: Mapping[str, T | str] | None = None) -> None:
        self.kind = kind
        self._entries: dict[str, T | str] = dict(entries or {})

    def register(self, name: str, entry: T | str) -> None:
        """Add an entry; a name is taken once.

        Raises:
            RequestError: if the name is taken or could be mistaken for `module:object`.
        """
        if name in self._entries:
            raise RequestError(f"a {self.kind} named '{name}' is registered already")
        if ":" in name:
            raise RequestError(f"a {self.kind}'s name has no ':', but it was '{name}'")
        self._entries[name] = entry

    def __getitem__(self, name: str) -> T:
        if name not in self._entries and ":" in name:
            return self._load(name)
        self.check(name)
        entry = self._entries[name]
        if isinstance(entry, str):
            entry = self._entries[name] = self._load(entry)
        return entry

    def check(self, name: str) -> None:
        """Raise RequestError if `name` is neither registered nor of the form `module:object`."""
        if name not in self._entries and ":" not in name:
            raise unknown_name(self.kind, name, self._entries)

    def _load(self, target: str) -> T:
        module_name, _, attribute = target.partition(":")
        if not attribute or not module_name or module_name.startswith("."):
            raise RequestError(
                f"{self.kind} '{target}' has not the form module:object, "
                "for example: my_package.my_module:MyClass"
            )
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise self._unimportable(target, error) from error
            raise RequestError(
                f"{self.kind} '{target}': there is no module '{module_name}' on the Python path"
            ) from error
        except Exception as error:  # whatever a user's own file raises
            raise self._unimportable(target, error) from error
        try:
            return cast(T, getattr(module, attribute))
        except AttributeError as error:
            raise RequestError(
                f"{self.kind} '{target}': module '{module_name}' has no '{attribute}'"
            ) from error

    def _unimportable(self, target: str, error: Exception) -> RequestError:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return RequestError(f"{self.kind} '{target}' cannot be imported: {reason}")

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
