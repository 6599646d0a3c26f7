"""Public data files: where they are looked for, and what is said where they are not."""

import gzip
from pathlib import Path

from nasbench.errors import RequestError


def data_folder(task: str, data_dir: Path | None, folder: str, source: str) -> Path:
    """The folder of a task's files below the data folder.

    Args:
        task: the task's name.
        data_dir: the data folder, or None if nobody named one.
        folder: what the task's own folder is called.
        source: where the files are to be had.

    Raises:
        RequestError: if there is no such folder; says where to get the files and where to put them.
    """
    if data_dir is None:
        raise RequestError(
            f"task '{task}' reads the folder '{folder}' of your data folder, and none is named; "
            f"set NASBENCH_DATA or task.data_dir (the files: {source})"
        )
    path = Path(data_dir).expanduser() / folder
    if not path.is_dir():
        raise RequestError(
            f"task '{task}' needs the folder '{path}', which does not exist; get its files from "
            f"{source}"
        )
    return path


def read_bytes(path: Path, source: str) -> bytes:
    """A file's content, unpacked where its name ends in .gz.

    Raises:
        RequestError: if it is missing or damaged.
    """
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except FileNotFoundError:
        raise RequestError(f"there is no '{path}'; get it from {source}") from None
    except (OSError, EOFError) as error:
        raise RequestError(f"cannot read '{path}': {error}; get it again from {source}") from None


def read_text(path: Path, source: str) -> str:
    """A UTF-8 text file; a file NAME.gz stands for NAME.

    Raises:
        RequestError: if it is missing, damaged or no UTF-8.
    """
    packed = path.with_name(path.name + ".gz")
    content = read_bytes(packed if packed.exists() else path, source)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(f"'{path}' is no UTF-8 text: {error}") from None


def read_lines(path: Path, source: str) -> list[str]:
    """The lines of a UTF-8 text file, as `read_text` reads it, without their ends.

    Lines end where editors and parallel corpora say so; `splitlines` would also cut at characters
    such as U+2028, which stand inside sentences.
    """
    return [
        line.removesuffix("\r") for line in read_text(path, source).removesuffix("\n").split("\n")
    ]
