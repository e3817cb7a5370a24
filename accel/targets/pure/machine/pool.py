"""The fork-join pool as LLVM IR: POSIX threads and futexes called from emitted code.

``i64 accel_parallel(ptr bases, ptr args, i64 begin, i64 end)`` is a kernel like any other, so
that a program needs no other form of record for what runs on several threads. Its argument
block (`SPLIT`) names another kernel, whose items ``[0, end)`` it divides into parts of `grain`
items. The parts are the same at any number of threads.

A section of parallel work is one 64-bit ticket: epoch, number of parts, next part to claim.
Whoever is free claims the next part by compare-and-exchange: a thread that the system has put
aside holds back one part at most. The caller takes part itself and waits only for parts that
were claimed. A caller that finds the pool taken does all of its work itself.

Everything that belongs to a section lies in one page of memory (`PAGE`) that the system wipes
in a forked child, in which the pool's threads do not exist: it starts its own when it needs
them. What outlives a fork is in the control block (`CONTROL`): the number of threads, and the
C library's functions, so that the code itself has no undefined symbols.

The system likes to wake a thread on the processor of the one that wakes it, where it would
wait until the caller has done all the work. So workers are kept off the caller's processor,
within the caller's own affinity mask, and told anew when the caller has moved.

Workers whose number is not below the number of threads sleep on that number; the others wait
for a new epoch, at first by looking, then asleep.
"""

from __future__ import annotations

__all__ = ["CONTROL", "SPLIT", "pool_text"]

#: Slots of the control block, 8 bytes each. `threads` is a 32-bit futex.
CONTROL = (
    "threads", "page", "futex", "syscall", "pthread_create", "pthread_detach",
    "pthread_sigmask", "pthread_setaffinity_np", "sched_getaffinity", "sched_getcpu",
)  # fmt: skip

#: Slots of the argument block of `accel_parallel`, 8 bytes each.
SPLIT = ("control", "kernel", "args", "grain")

#: Byte offsets in the page; what different threads write lies on lines of its own. The upper
#: half of the ticket, the epoch, is a futex; so is `done`.
PAGE = {
    "ticket": 0, "epoch": 4, "done": 64, "waiting": 68, "kernel": 128, "bases": 136,
    "args": 144, "grain": 152, "end": 160, "status": 168, "busy": 192, "wanted": 196,
    "sleepers": 256, "born": 320, "avoided": 384, "threads": 512,
}  # fmt: skip

#: Workers that are kept off the caller's processor; with more there are processors enough.
SPREAD = 16

#: How often a thread looks before it sleeps.
SPINS = 2000

# FUTEX_WAIT and FUTEX_WAKE, each with FUTEX_PRIVATE_FLAG.
_WAIT, _WAKE = 128, 129

# Signals that a worker leaves to the threads of the program: all but those of faults (ILL,
# TRAP, ABRT, BUS, FPE, SEGV), which arrive where they arise.
_BLOCKED = ~sum(1 << (signal - 1) for signal in (4, 5, 6, 7, 8, 11))

_PAUSES = {
    "x86_64": ("declare void @llvm.x86.sse2.pause()", "call void @llvm.x86.sse2.pause()"),
    "aarch64": ("declare void @llvm.aarch64.hint(i32)", "call void @llvm.aarch64.hint(i32 1)"),
}


def pool_text(architecture: str) -> str:
    """The pool's module for an architecture as LLVM names it: ``x86_64``, ``aarch64`` …"""
    declaration, pause = _PAUSES.get(architecture, ("", ""))
    functions = [
        _futex(), _work_off(), _worker(pause), _start(), _spread(), _section(pause), _parallel(),
    ]  # fmt: skip
    return "\n".join([declaration, *functions])


def _fields(*names: str) -> str:
    """Pointers ``%p.name`` to fields of ``%page``."""
    return "\n".join(f"  %p.{n} = getelementptr i8, ptr %page, i64 {PAGE[n]}" for n in names)


def _control(name: str, type_: str = "ptr") -> str:
    """``%name`` from the control block ``%control``."""
    return (
        f"  %c.{name} = getelementptr i8, ptr %control, i64 {8 * CONTROL.index(name)}\n"
        f"  %{name} = load {type_}, ptr %c.{name}, align 8"
    )


def _futex() -> str:
    return f"""
; Sleep while *word is value, or wake up to `value` sleepers, as `operation` says.
define internal void @futex(ptr %control, ptr %word, i32 %operation, i32 %value) nounwind {{
entry:
{_control("syscall")}
{_control("futex", "i64")}
  %r = call i64 (i64, ...) %syscall(i64 %futex, ptr %word, i32 %operation, i32 %value, ptr null)
  ret void
}}
"""


def _work_off() -> str:
    return f"""
; Claim and run parts until none is left. A ticket with a part to claim belongs to a section
; that has not ended, so what the page says of it can be read once the claim has succeeded.
define internal void @work_off(ptr %control, ptr %page) nounwind {{
entry:
{_fields("done", "waiting", "kernel", "bases", "args", "grain", "end", "status")}
  br label %look
look:
  %ticket = load atomic i64, ptr %page acquire, align 8
  %part = and i64 %ticket, 65535
  %high = lshr i64 %ticket, 16
  %parts = and i64 %high, 65535
  %left = icmp ult i64 %part, %parts
  br i1 %left, label %claim, label %out
claim:
  %following = add i64 %ticket, 1
  %exchange = cmpxchg ptr %page, i64 %ticket, i64 %following acq_rel monotonic
  %claimed = extractvalue {{i64, i1}} %exchange, 1
  br i1 %claimed, label %run, label %look
run:
  %kernel = load ptr, ptr %p.kernel, align 8
  %bases = load ptr, ptr %p.bases, align 8
  %args = load ptr, ptr %p.args, align 8
  %grain = load i64, ptr %p.grain, align 8
  %end = load i64, ptr %p.end, align 8
  %begin = mul i64 %part, %grain
  %next = add i64 %begin, %grain
  %stop = call i64 @llvm.smin.i64(i64 %next, i64 %end)
  %status = call i64 %kernel(ptr %bases, ptr %args, i64 %begin, i64 %stop)
  %fine = icmp eq i64 %status, 0
  br i1 %fine, label %count, label %fail
fail: ; the first part that fails counts, as if one thread had done it all
  %place = shl i64 %part, 32
  %named = or i64 %place, %status
  %worst = atomicrmw umin ptr %p.status, i64 %named monotonic
  br label %count
count:
  %before = atomicrmw add ptr %p.done, i32 1 seq_cst
  %asleep = load atomic i32, ptr %p.waiting seq_cst, align 4
  %wake = icmp ne i32 %asleep, 0
  br i1 %wake, label %call, label %look
call:
  call void @futex(ptr %control, ptr %p.done, i32 {_WAKE}, i32 1)
  br label %look
out:
  ret void
}}
declare i64 @llvm.smin.i64(i64, i64)
"""


def _worker(pause: str) -> str:
    return f"""
define internal ptr @worker(ptr %control) nounwind {{
entry:
  %signals = alloca [16 x i64], align 16
{_control("page")}
{_control("pthread_sigmask")}
{_fields("epoch", "sleepers", "born")}
  call void @llvm.memset.p0.i64(ptr %signals, i8 -1, i64 128, i1 false)
  store i64 {_BLOCKED}, ptr %signals, align 8
  %r = call i32 %pthread_sigmask(i32 0, ptr %signals, ptr null)
  %born = atomicrmw add ptr %p.born, i32 1 monotonic
  %number = add i32 %born, 1
  br label %idle
idle:
  %threads = load atomic i32, ptr %control seq_cst, align 4
  %needed = icmp slt i32 %number, %threads
  br i1 %needed, label %wait, label %retire
retire:
  call void @futex(ptr %control, ptr %control, i32 {_WAIT}, i32 %threads)
  br label %idle
wait:
  %last = load atomic i32, ptr %p.epoch acquire, align 4
  call void @work_off(ptr %control, ptr %page)
  br label %spin
spin:
  %turn = phi i32 [0, %wait], [%turned, %spun]
  %epoch = load atomic i32, ptr %p.epoch acquire, align 4
  %new = icmp ne i32 %epoch, %last
  br i1 %new, label %idle, label %spun
spun:
  {pause}
  %turned = add i32 %turn, 1
  %more = icmp ult i32 %turned, {SPINS}
  br i1 %more, label %spin, label %lie
lie:
  %slept = atomicrmw add ptr %p.sleepers, i32 1 seq_cst
  br label %sleep
sleep:
  %now = load atomic i32, ptr %p.epoch seq_cst, align 4
  %due = icmp ne i32 %now, %last
  br i1 %due, label %rise, label %doze
doze:
  call void @futex(ptr %control, ptr %p.epoch, i32 {_WAIT}, i32 %last)
  br label %sleep
rise:
  %risen = atomicrmw sub ptr %p.sleepers, i32 1 seq_cst
  br label %idle
}}
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
"""


def _start() -> str:
    return f"""
; See that there are `wanted` workers; where the system refuses one, that is not tried again.
define internal void @start(ptr %control, ptr %page, i32 %wanted) nounwind {{
entry:
  %thread = alloca i64, align 8
{_control("pthread_create")}
{_control("pthread_detach")}
{_fields("wanted", "avoided", "threads")}
  %held = load i32, ptr %p.wanted, align 4
  br label %check
check:
  %i = phi i32 [%held, %entry], [%i1, %detach]
  %missing = icmp slt i32 %i, %wanted
  br i1 %missing, label %create, label %out
create:
  store i32 %wanted, ptr %p.wanted, align 4
  store i32 0, ptr %p.avoided, align 4
  %r = call i32 %pthread_create(ptr %thread, ptr null, ptr @worker, ptr %control)
  %created = icmp eq i32 %r, 0
  br i1 %created, label %detach, label %out
detach:
  %id = load i64, ptr %thread, align 8
  %d = call i32 %pthread_detach(i64 %id)
  %known = icmp slt i32 %i, {SPREAD}
  %place = select i1 %known, i32 %i, i32 {SPREAD}
  %slot = getelementptr i64, ptr %p.threads, i32 %place
  store i64 %id, ptr %slot, align 8
  %i1 = add i32 %i, 1
  br label %check
out:
  ret void
}}
"""


def _spread() -> str:
    return f"""
; Keep the first workers off the caller's processor, if there is another one for them.
define internal void @spread(ptr %control, ptr %page) nounwind {{
entry:
  %mask = alloca [16 x i64], align 16
{_control("sched_getcpu")}
{_control("sched_getaffinity")}
{_control("pthread_setaffinity_np")}
{_fields("wanted", "avoided", "threads")}
  %offered = icmp ne ptr %sched_getcpu, null
  br i1 %offered, label %ask, label %out
ask:
  %cpu = call i32 %sched_getcpu()
  %known = icmp ult i32 %cpu, 1024
  %name = add i32 %cpu, 1
  %avoided = load i32, ptr %p.avoided, align 4
  %moved = icmp ne i32 %avoided, %name
  %needed = and i1 %known, %moved
  br i1 %needed, label %own, label %out
own:
  store i32 %name, ptr %p.avoided, align 4
  call void @llvm.memset.p0.i64(ptr %mask, i8 0, i64 128, i1 false)
  %r = call i32 %sched_getaffinity(i32 0, i64 128, ptr %mask)
  %w = lshr i32 %cpu, 6
  %b = and i32 %cpu, 63
  %shift = zext i32 %b to i64
  %bit = shl i64 1, %shift
  %others = xor i64 %bit, -1
  %at = getelementptr i64, ptr %mask, i32 %w
  %word = load i64, ptr %at, align 8
  %cleared = and i64 %word, %others
  store i64 %cleared, ptr %at, align 8
  %all = load i1024, ptr %mask, align 16
  %possible = icmp ne i1024 %all, 0
  %count = load i32, ptr %p.wanted, align 4
  %last = call i32 @llvm.smin.i32(i32 %count, i32 {SPREAD})
  br i1 %possible, label %check, label %out
check:
  %i = phi i32 [0, %own], [%i1, %next]
  %left = icmp slt i32 %i, %last
  br i1 %left, label %set, label %out
set:
  %slot = getelementptr i64, ptr %p.threads, i32 %i
  %id = load i64, ptr %slot, align 8
  %i1 = add i32 %i, 1
  %exists = icmp ne i64 %id, 0
  br i1 %exists, label %move, label %next
move:
  %s = call i32 %pthread_setaffinity_np(i64 %id, i64 128, ptr %mask)
  br label %next
next:
  br label %check
out:
  ret void
}}
"""


def _section(pause: str) -> str:
    return f"""
; Publish the section described in the page, take part in it, wait for its end.
define internal void @section(ptr %control, ptr %page, i64 %parts, i32 %helpers) nounwind {{
entry:
{_fields("epoch", "done", "waiting", "status", "sleepers")}
  store i64 -1, ptr %p.status, align 8
  store atomic i32 0, ptr %p.done monotonic, align 4
  store atomic i32 0, ptr %p.waiting monotonic, align 4
  %epoch = load atomic i32, ptr %p.epoch monotonic, align 4
  %new = add i32 %epoch, 1
  %wide = zext i32 %new to i64
  %high = shl i64 %wide, 32
  %middle = shl i64 %parts, 16
  %ticket = or i64 %high, %middle
  store atomic i64 %ticket, ptr %page seq_cst, align 8
  %sleepers = load atomic i32, ptr %p.sleepers seq_cst, align 4
  %asleep = icmp ne i32 %sleepers, 0
  br i1 %asleep, label %wake, label %take
wake:
  call void @futex(ptr %control, ptr %p.epoch, i32 {_WAKE}, i32 %helpers)
  br label %take
take:
  call void @work_off(ptr %control, ptr %page)
  %all = trunc i64 %parts to i32
  br label %spin
spin:
  %turn = phi i32 [0, %take], [%turned, %spun]
  %done = load atomic i32, ptr %p.done acquire, align 4
  %over = icmp eq i32 %done, %all
  br i1 %over, label %out, label %spun
spun:
  {pause}
  %turned = add i32 %turn, 1
  %more = icmp ult i32 %turned, {SPINS}
  br i1 %more, label %spin, label %lie
lie:
  store atomic i32 1, ptr %p.waiting seq_cst, align 4
  br label %sleep
sleep:
  %now = load atomic i32, ptr %p.done seq_cst, align 4
  %end = icmp eq i32 %now, %all
  br i1 %end, label %out, label %doze
doze:
  call void @futex(ptr %control, ptr %p.done, i32 {_WAIT}, i32 %now)
  br label %sleep
out:
  ret void
}}
"""


def _parallel() -> str:
    split = "\n".join(
        f"  %s.{name} = getelementptr i8, ptr %split, i64 {8 * place}\n"
        f"  %{name} = load {'i64' if name == 'grain' else 'ptr'}, ptr %s.{name}, align 8"
        for place, name in enumerate(SPLIT)
    )
    described = "\n".join(
        f"  store {type_} %{name}, ptr %p.{name}, align 8"
        for name, type_ in (
            ("kernel", "ptr"), ("bases", "ptr"), ("args", "ptr"), ("grain", "i64"), ("end", "i64")
        )
    )  # fmt: skip
    return f"""
define i64 @accel_parallel(ptr %bases, ptr %split, i64 %begin, i64 %end) nounwind {{
entry:
{split}
{_control("page")}
{_fields("kernel", "bases", "args", "grain", "end", "status", "busy")}
  %threads = load atomic i32, ptr %control seq_cst, align 4
  %several = icmp sgt i32 %threads, 1
  br i1 %several, label %enter, label %alone
enter:
  %exchange = cmpxchg ptr %p.busy, i32 0, i32 1 acquire monotonic
  %entered = extractvalue {{i32, i1}} %exchange, 1
  br i1 %entered, label %together, label %alone
alone:
  %whole = call i64 %kernel(ptr %bases, ptr %args, i64 %begin, i64 %end)
  ret i64 %whole
together:
  %most = sub i32 %threads, 1
  %up = add i64 %end, %grain
  %less = sub i64 %up, 1
  %parts = udiv i64 %less, %grain
  %other = trunc i64 %parts to i32
  %others = sub i32 %other, 1
  %helpers = call i32 @llvm.smin.i32(i32 %most, i32 %others)
  call void @start(ptr %control, ptr %page, i32 %helpers)
  call void @spread(ptr %control, ptr %page)
{described}
  call void @section(ptr %control, ptr %page, i64 %parts, i32 %helpers)
  %found = load atomic i64, ptr %p.status monotonic, align 8
  store atomic i32 0, ptr %p.busy release, align 4
  %none = icmp eq i64 %found, -1
  %status = and i64 %found, 4294967295
  %result = select i1 %none, i64 0, i64 %status
  ret i64 %result
}}
declare i32 @llvm.smin.i32(i32, i32)
"""
