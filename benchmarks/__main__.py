"""`python -m benchmarks`: accel beside NumPy, torch eager and torch.compile."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from . import report
from .peers import PEERS
from .runner import Outcome, Runner
from .workloads import WORKLOADS


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("workloads", nargs="*", help="names or beginnings of names; all if none")
    parser.add_argument("--peers", default=",".join(PEERS), help="separated by commas")
    parser.add_argument("--rounds", type=int, default=7, help="turns a peer takes (default 7)")
    parser.add_argument("--seconds", type=float, default=0.05, help="length of a turn")
    parser.add_argument("--threads", type=int, default=1, help="threads a peer may use")
    parser.add_argument("--json", metavar="FILE", help="also write every turn to FILE")
    parser.add_argument("--list", action="store_true", help="show the workloads and stop")
    return parser.parse_args(arguments)


def chosen(prefixes: list[str]) -> list[str]:
    """The workloads that start with any of `prefixes`."""
    return [name for name in WORKLOADS if not prefixes or name.startswith(tuple(prefixes))]


def main() -> int:
    options = parse()
    names = chosen(options.workloads)
    if options.list or not names:
        print("\n".join(names or [f"nothing matches; there are: {' '.join(WORKLOADS)}"]))
        return 0 if names else 2
    results: dict[str, dict[str, Outcome]] = {}
    notes: list[str] = []
    with Runner(
        options.peers.split(","),
        threads=options.threads,
        rounds=options.rounds,
        seconds=options.seconds,
    ) as runner:
        peers = list(runner.versions)
        if not peers:
            print("no peer answers:", runner.missing, file=sys.stderr)
            return 2
        print(report.header(peers))
        for workload, outcomes in runner.run(names):
            results[workload] = outcomes
            notes += report.remarks(workload, outcomes)
            print(report.row(workload, peers, outcomes), flush=True)
    print(f"\n{', '.join(runner.versions.values())}; float32; {options.threads} thread(s) each;")
    print(f"median of {options.rounds} alternating turns; outputs are new on every call;")
    print("every answer was compared with NumPy in float64 before timing.")
    print(*notes, *(f"{peer} left out: {why}" for peer, why in runner.missing.items()), sep="\n")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(
                {w: {p: asdict(o) for p, o in found.items()} for w, found in results.items()}, file
            )
    return int(any(o.wrong for found in results.values() for o in found.values()))


if __name__ == "__main__":
    sys.exit(main())
