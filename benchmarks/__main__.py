"""`python -m benchmarks`: accel beside the libraries that its users come from."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

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
    parser.add_argument("--peers-python", metavar="PYTHON", default=peers_python(),
                        help="interpreter of jax, numexpr, numba and onnxruntime")  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="also write every turn to FILE")
    parser.add_argument("--list", action="store_true", help="show the workloads and stop")
    return parser.parse_args(arguments)


def peers_python() -> str | None:
    """The environment that `make bench` builds for the other libraries, if it is there."""
    python = Path(__file__).parent.parent / ".venv-peers" / "bin" / "python"
    return str(python) if python.exists() else None


def chosen(prefixes: list[str], threads: int) -> list[str]:
    """The workloads that start with any of `prefixes`; those of so many threads as are compared
    with one only where that is what the run has."""
    names = [name for name in WORKLOADS if not prefixes or name.startswith(tuple(prefixes))]
    return [name for name in names if threads == 1 or not getattr(WORKLOADS[name], "threads", 0)]


def _progress(text: str) -> None:
    """What is being measured, on a terminal's last line."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def main() -> int:
    options = parse()
    names = chosen(options.workloads, options.threads)
    if options.list or not names:
        print("\n".join(names or [f"nothing matches; there are: {' '.join(WORKLOADS)}"]))
        return 0 if names else 2
    results: dict[str, dict[str, Outcome]] = {}
    notes: list[str] = []
    start = time.monotonic()
    with Runner(
        options.peers.split(","),
        threads=options.threads,
        rounds=options.rounds,
        seconds=options.seconds,
        python=options.peers_python,
    ) as runner:
        peers = list(runner.versions)
        if not peers:
            print("no peer answers:", runner.missing, file=sys.stderr)
            return 2
        peak = runner.peak()
        print(report.header(peers))
        for number, name in enumerate(names, 1):
            _progress(f"{number}/{len(names)} {name}")
            results[name] = runner.measure(name)
            _progress("")
            notes += report.remarks(name, results[name])
            print(report.row(name, peers, results[name], peak), flush=True)
    print(f"\n{report.summary(results)}\n")
    print(f"{', '.join(runner.versions.values())}; float32 unless named otherwise;")
    print(f"{options.threads} thread(s) each unless named otherwise;")
    print(f"median of {options.rounds} alternating turns; {time.monotonic() - start:.0f} s in all;")
    print("outputs are new on every call; NumPy's copy goes into an array that exists;")
    print("every answer was compared with NumPy in float64 before timing.")
    if peak:
        print(", ".join(f"{d} peak of a core: {g:.0f} GFLOP/s" for d, g in peak.items()))
    print(*notes, *(f"{peer} left out: {why}" for peer, why in runner.missing.items()), sep="\n")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(
                {w: {p: asdict(o) for p, o in found.items()} for w, found in results.items()}, file
            )
    return int(any(o.wrong for found in results.values() for o in found.values()))


if __name__ == "__main__":
    sys.exit(main())
