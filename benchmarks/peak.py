"""The most multiply-adds a core can do: a loop of nothing else."""

from __future__ import annotations

import ctypes
import time

ACCUMULATORS = 16
LOOPS = 200_000


def peak_gflops(dtype: str) -> float:
    """Billions of floating-point operations a second of one core, in float32 or float64.

    Sixteen independent chains of vector multiply-adds in registers: the best of several turns,
    as the ceiling that products are held against.
    """
    from accel.targets.pure.machine.jit import compile_module, host_machine

    element, size = {"float32": ("float", 4), "float64": ("double", 8)}[dtype]
    lanes = host_machine().lanes(size)
    vector = f"<{lanes} x {element}>"
    code = compile_module(_text(vector, element, lanes))
    run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(code.address("peak"))
    place = (ctypes.c_char * (lanes * size + 64))()
    address = ctypes.addressof(place)
    spent = []
    for _ in range(15):
        start = time.perf_counter()
        run(address, LOOPS)
        spent.append(time.perf_counter() - start)
    return 2.0 * lanes * ACCUMULATORS * LOOPS / min(spent) / 1e9


def _text(vector: str, element: str, lanes: int) -> str:
    chains = range(ACCUMULATORS)
    start = ", ".join([f"{element} 1.0"] * lanes)
    lines = [
        f"declare {vector} @llvm.fma.v{lanes}{'f32' if element == 'float' else 'f64'}"
        f"({vector}, {vector}, {vector})",
        "define void @peak(ptr %out, i64 %n) {", "entry:",
        f"  %one = load {vector}, ptr %out, align 4", "  br label %loop", "loop:",
        "  %i = phi i64 [0, %entry], [%next, %loop]",
    ]  # fmt: skip
    lines += [f"  %a{c} = phi {vector} [<{start}>, %entry], [%b{c}, %loop]" for c in chains]
    fma = lines[0].split("@")[1].split("(")[0]
    lines += [
        f"  %b{c} = call {vector} @{fma}({vector} %a{c}, {vector} %one, {vector} %one)"
        for c in chains
    ]
    lines += ["  %next = add i64 %i, 1", "  %more = icmp slt i64 %next, %n",
              "  br i1 %more, label %loop, label %out1", "out1:",
              f"  %s0 = fadd {vector} %b0, %b1"]  # fmt: skip
    lines += [
        f"  %s{c} = fadd {vector} %s{c - 1}, %b{c + 1}" for c in range(1, ACCUMULATORS - 1)
    ]
    lines += [f"  store {vector} %s{ACCUMULATORS - 2}, ptr %out, align 4", "  ret void", "}"]
    return "\n".join(lines) + "\n"
