"""Replacing a folder or a file as a whole."""

import shutil
from pathlib import Path


def replace_folder(new: Path, folder: Path) -> None:
    """Put a finished folder in the place of another one, which may not exist.

    A process that is killed meanwhile leaves the new one or the old one whole, at the worst under
    the name it had here: `new`, or `.replaced-NAME` beside the old place.
    """
    replaced = folder.with_name(f".replaced-{folder.name}")
    shutil.rmtree(replaced, ignore_errors=True)
    if folder.exists():
        folder.rename(replaced)
    new.rename(folder)
    shutil.rmtree(replaced, ignore_errors=True)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file; a process that is killed meanwhile leaves the old one, or none."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
