"""Forks while other threads are at work: the child has their memory, and none of them."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import pytest
from processes import in_fresh_process

import accel
from accel import forking

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")

SOURCES = Path(accel.__file__).parent

#: A program begins so: `child` runs a function in a forked child, which must end with True.
BEGINNING = """
import faulthandler, gc, os, sys, threading, time
import numpy as np
import accel
from accel import forking

def child(function):
    number = os.fork()
    if number == 0:
        faulthandler.dump_traceback_later(30, exit=True)
        good = False
        try:
            good = function()
        finally:
            sys.stderr.flush()
            os._exit(0 if good else 1)
    return os.waitpid(number, 0)[1] == 0

def beside(function):
    "A thread that is at a place in the midst of `function` when this returns, and what ends it."
    there, ending = threading.Event(), threading.Event()
    thread = threading.Thread(target=function, args=(there, ending))
    thread.start()
    there.wait()
    def end():
        ending.set()
        thread.join()
    return end
"""


def test_a_lock_of_another_thread_is_free_in_the_child_and_ones_own_is_held() -> None:
    assert in_fresh_process(BEGINNING + """
mine, theirs = forking.lock(), forking.lock()
def hold(there, ending):
    with theirs:
        there.set()
        ending.wait()
end = beside(hold)
def both():
    free = theirs.acquire(timeout=1)
    held = threading.Thread(target=lambda: took.append(mine.acquire(blocking=False)))
    took = []
    held.start(); held.join()
    return free and took == [False]
with mine:
    print(child(both), theirs.acquire(blocking=False))
end()
""") == "True False"  # fmt: skip


def test_every_lock_is_made_where_forks_are_known() -> None:
    made = re.compile(r"threading\.R?Lock\(|functools\.cached_property|import cached_property")
    for path in SOURCES.rglob("*.py"):
        if path.name != "forking.py":
            text = path.read_text().replace("forking import cached_property", "")
            assert not made.search(text), path


def test_a_property_is_computed_once_and_no_class_holds_a_lock_for_it() -> None:
    class Counted:
        count = 0

        @forking.cached_property
        def value(self) -> int:
            self.count += 1
            return self.count

    first = Counted()
    assert (first.value, first.value, Counted().value) == (1, 1, 1)
    assert not hasattr(Counted.value, "lock")


def test_a_collector_that_another_thread_has_paused_runs_in_the_child() -> None:
    assert in_fresh_process(BEGINNING + """
from accel.runtime.collector import collection_paused
def pause(there, ending):
    with collection_paused():
        there.set()
        ending.wait()
end = beside(pause)
found = [gc.isenabled(), child(gc.isenabled), gc.isenabled()]
with collection_paused():
    found.append(child(lambda: not gc.isenabled()))
end()
print(*found, gc.isenabled())
""") == "False True False True True"  # fmt: skip


def test_who_is_inside_counts_by_thread() -> None:
    said: list[str] = []
    lamp = forking.Presence(lambda: said.append("on") is None, lambda: said.append("off"))
    lamp.enter()
    other = threading.Thread(target=lambda: (lamp.enter(), lamp.enter(), lamp.leave()))
    other.start()
    other.join()
    lamp.leave()
    assert said == ["on"]
    lamp.others_left()  # as in a child of this thread
    assert said == ["on", "off"]
    refused = forking.Presence(lambda: False, lambda: said.append("never"))
    assert not refused.enter() and "never" not in said


def test_a_fork_waits_for_other_threads_in_a_block_and_keeps_them_out() -> None:
    assert in_fresh_process(BEGINNING + """
inside = []
def work(there, ending):
    while not ending.is_set():
        with forking.unforked():
            inside.append(1)
            there.set()
            time.sleep(0.02)
            with forking.unforked():
                time.sleep(0.02)
            inside.pop()
ends = [beside(work) for _ in range(3)]
good = [child(lambda: not inside) for _ in range(10)]
with forking.unforked():  # ones own is no reason to wait
    good.append(child(lambda: not inside))
for end in ends: end()
print(all(good))
""") == "True"  # fmt: skip


@pytest.mark.parametrize("cache", ["0", ""])
def test_children_compile_while_other_threads_of_the_parent_do(cache: str, tmp_path: Path) -> None:
    environment = {"ACCEL_CACHE": cache} if cache else {"ACCEL_CACHE_DIR": str(tmp_path)}
    assert in_fresh_process(BEGINNING + """
a = np.random.default_rng(0).standard_normal((40, 40)).astype(np.float32)
def compute(c):
    f = accel.compile(lambda a: accel.sum(accel.exp(a / c) @ a, 0) * c)
    found = [f(a).numpy() for _ in range(3)]
    expected = (np.exp(a / np.float32(c)) @ a).sum(0) * np.float32(c)
    return all(np.allclose(x, expected, rtol=1e-4, atol=1e-3) for x in found)
def work(there, ending):
    there.set()
    number = threading.get_ident() % 1000
    while not ending.is_set():
        number += 1
        assert compute(number / 1000 + 0.5)
ends = [beside(work) for _ in range(2)]
good = []
for i in range(12):
    good.append(child(lambda: compute(3.5 + i) and gc.isenabled()))
    time.sleep(0.013)
for end in ends: end()
print(len(good), all(good), gc.isenabled())
""", **environment) == "12 True True"  # fmt: skip


def test_what_is_imported_when_it_is_needed_is_not_half_imported_in_a_child() -> None:
    assert in_fresh_process(BEGINNING + """
missed = {}
def look(event, args):
    if event == "import" and threading.get_ident() not in forking._inside:
        frame = sys._getframe(1)
        while frame is not None:
            code = frame.f_code
            if "/accel/" in code.co_filename and code.co_name != "<module>":
                missed.setdefault(f"{code.co_filename}:{frame.f_lineno}", args[0])
                break
            frame = frame.f_back
a = np.random.default_rng(0).standard_normal((200, 200))
sys.addaudithook(look)
f = accel.compile(lambda a: accel.softmax(a, 1) @ a)
for _ in range(4): f(a)
x = accel.asarray(np.ones((4, 4), np.float32))
for _ in range(4): float(((x + 1) @ x).sum())
layer = accel.nn.Linear(4, 2)
optimizer = accel.optim.Adam(layer.parameters())
for _ in range(3):
    optimizer.zero_grad()
    layer(x).sum().backward()
    optimizer.step()
accel.rand(3).numpy(), repr(x), accel.linalg.solve(x + accel.eye(4), x).numpy()
print(missed)
""", ACCEL_CACHE="0") == "{}"  # fmt: skip
