"""Kill workers, nodes, drivers, heads and the database server, hundreds of times.

    python -m experiments.soak --kind worker --rounds 24   (or node, driver, server, head, hang)
    python -m experiments.soak --table

Each round is a search of 48 toys on a Ray cluster of three nodes on this machine, with its trials
in a real PostgreSQL, to which one thing happens at a random (seeded) moment. It ends with the
trials of an uninterrupted search, or the round is counted as one that does not. A finished round
has its file under runs/soak, so the same command carries on.
"""

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

from experiments.study import found_once
from nasbench.testing.faults import Cluster, play
from nasbench.testing.postgresql import PostgreSQLServer, find_programs

KINDS = ("worker", "node", "driver", "server", "head", "hang")
FOLDER = Path("runs/soak")


def run(kind: str, num_rounds: int) -> None:
    """Play the rounds of a kind that have no file yet."""
    programs = find_programs()
    if programs is None:
        raise SystemExit("the soak needs PostgreSQL's server (Debian's package postgresql)")
    with PostgreSQLServer(programs) as server, Cluster() as cluster:

        def restart_server() -> None:
            server.kill()
            time.sleep(0.3)
            server.start()

        for seed in range(num_rounds):

            def find(seed: int = seed) -> dict[str, Any]:
                start = time.monotonic()
                found = play(kind, cluster, server.new_store(), seed, restart_server)
                return {"kind": kind, **found, "seconds": round(time.monotonic() - start, 1)}

            found = found_once(FOLDER / f"{kind}-{seed:04d}.json", find)
            print(seed, json.dumps(found), flush=True)


def table() -> str:
    """What came of all finished rounds, as Markdown."""
    rounds = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*-*.json"))]
    by_kind = defaultdict(list)
    for found in rounds:
        by_kind[found["kind"]].append(found)
    lines = [
        "| killed | rounds | trials finished when it happened (median, range) | missing | twice "
        "| invented | other than uninterrupted | seconds (median) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind in KINDS:
        found = by_kind[kind]
        if not found:
            continue
        at = [each["at"] for each in found]
        sums = [
            sum(each["differences"][name] for each in found)
            for name in ("missing", "twice", "invented", "other")
        ]
        lines.append(
            f"| {kind} | {len(found)} | {median(at):g} ({min(at)} to {max(at)}) | "
            + " | ".join(map(str, sums))
            + f" | {median(each['seconds'] for each in found):.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=KINDS, help="what is killed")
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--table", action="store_true", help="print what all rounds came to")
    arguments = parser.parse_args()
    if arguments.kind:
        run(arguments.kind, arguments.rounds)
    if arguments.table:
        print(table())
