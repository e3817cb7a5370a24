"""A graph's way through the passes, under the settings of the moment."""

from __future__ import annotations

from ..ir.graph import Graph
from ..log import logger
from ..passes.pipeline import Pipeline, Stages
from ..passes.place import Policy, heaviest
from .state import State

__all__ = ["log_decisions", "stages_of"]


def stages_of(graph: Graph, state: State, why: str = "") -> Stages:
    """All stages. Torch is imported only once a region is placed on it, and may prove broken.

    `why` is the reason for a mode with one target, if it is not the user's choice.
    """
    policy = Policy(state.mode, why) if why else _policy(state)
    stages = Pipeline(policy, state.disabled_passes, state.verify).run(graph)
    if policy.target is None and _uses_torch(stages.placed) and not _torch_works():
        policy = Policy("pure", "mode auto, torch cannot be imported")
        stages = Pipeline(policy, state.disabled_passes, state.verify).run(graph)
    return stages


def _uses_torch(placed: Graph) -> bool:
    return any(n.attrs["target"] == "torch" for n in placed.nodes if n.op.name == "region")


def _torch_works() -> bool:
    from ..targets import torch as torch_target

    return torch_target.available()


def _policy(state: State) -> Policy:
    """What placement must know, from the settings and what is installed."""
    if state.mode in ("pure", "reference"):
        return Policy(state.mode, f"mode {state.mode}")
    from ..targets import torch as torch_target

    if state.mode == "torch":
        torch_target.require()
        return Policy("torch", "mode torch")
    if not torch_target.installed():
        return Policy("pure", "mode auto, torch is not installed")
    on_gpu = state.device is not None and state.device.startswith("cuda")
    return Policy(
        None, "", state.thresholds,
        transfer_ns=20_000 if on_gpu else 2_000, byte_ns=0.1 if on_gpu else 0.0,
    )  # fmt: skip


def log_decisions(placed: Graph) -> None:
    """One line a region on the logger ``accel``: where it runs, and why."""
    for node in placed.nodes:
        if node.op.name == "region":
            weight = heaviest(node.attrs["body"])
            shape = "x".join(map(str, weight.shape)) or "scalar"
            logger().info("[accel] %s %s -> %s (%s)", weight.op, shape, node.attrs["target"],
                          node.attrs["reason"])  # fmt: skip
