"""Take what the parts of a study found out of its folder, into one file, and put it back.

    python experiments/study_parts.py save runs/tas_study docs/results/parts/tas_study.jsonl
    python experiments/study_parts.py restore docs/results/parts/tas_study.jsonl runs/tas_study

The file has a line of JSON per part. Restored, a study carries on after those parts, and its
figures and tables are drawn anew without any training. Weights are not in it.
"""

import argparse
import json
from pathlib import Path

from study import found_once


def save(folder: Path, file: Path) -> int:
    """Write what each part in the folder found, by its path there; how many there are."""
    results = sorted(path for path in folder.rglob("*.json") if not _is_checkpoint(path))
    if not results:
        raise SystemExit(f"no part of a study lies in '{folder}'")
    lines = [
        json.dumps({"part": str(path.relative_to(folder)), "found": json.loads(path.read_text())})
        for path in results
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")
    return len(lines)


def restore(file: Path, folder: Path) -> int:
    """Put parts back where they were; those that are there already stay as they are."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        path = folder / line["part"]
        if not path.resolve().is_relative_to(folder.resolve()):
            raise SystemExit(f"'{line['part']}' would lie outside of '{folder}'")
        found_once(path, lambda line=line: line["found"])
    return len(lines)


def _is_checkpoint(path: Path) -> bool:
    return path.parent.name.startswith("step-")


def main() -> None:
    """Save or restore."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("save", "restore"))
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    asked = parser.parse_args()
    count = (save if asked.what == "save" else restore)(asked.source, asked.target)
    print(f"{count} parts: {asked.target}")


if __name__ == "__main__":
    main()
