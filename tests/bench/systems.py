# Copyright the Curling authors
# SPDX-License-Identifier: GPL-2.0-or-later

"""What is compared: each protects a guest under a load for a while.

A system is started once for a measurement: start(), protect(), begin(),
then time passes, end() and figures(); at last remove().
"""

import collections
import os
import time

import figures
from machine import BUILD, Failed, Machine, Network, bytes_sent, now_ns, \
    wait_for

PORT = 4444             # the namespace has nothing else


Load = collections.namedtuple(
    "Load", "name mb rate interval_ms ram_mb touch_mb random settings what")


def load(name, mb, rate, interval_ms, ram_mb=512, touch_mb=0, random=0,
         settings=None):
    """@settings: of Curling's sender, beside the interval."""
    settings = settings or {}
    what = "%d pages/s over %d MiB, every %d ms, %d MiB guest%s" % (
        rate, mb, interval_ms, ram_mb, "".join(
            "; Curling: %s=%s" % setting for setting in settings.items()))
    return Load(name, mb, rate, interval_ms, ram_mb, touch_mb, random,
                settings, what)


class System:
    """The guest alone, and what is the same with all systems."""

    name = "alone"
    receiver_starts = False
    pins = True

    def __init__(self, load, folder, mbit=0, free=False):
        self.free = free        # threads run where the kernel wants them
        self.load = load
        self.folder = folder
        self.network = None
        self.sender = self.receiver = None
        self.first_round_s = None
        self.events = []
        self.mbit = mbit

    # --- What others do otherwise

    def options(self, receiver):
        """More words for QEMU's command line."""
        return []

    def environment(self):
        return None

    def protect(self):
        pass

    def measured(self):
        """Figures of this system's own."""
        return {}

    # --- The life of a measurement

    def machine(self, name, end, words=()):
        load = self.load
        append = "console=ttyS0 quiet no_timer_check load.mb=%d " \
                 "load.rate=%d load.touch=%d load.random=%d" % (
                     load.mb, load.rate, load.touch_mb, load.random)
        path = os.path.join(self.folder, name)
        return Machine(
            self.folder, name,
            ["-machine", "pc", "-accel", "tcg", "-m", str(load.ram_mb),
             "-kernel", os.path.join(BUILD, "fetch", "vmlinuz"),
             "-initrd", os.path.join(BUILD, "guest", "load.cpio.gz"),
             "-append", append, "-D", path + ".trace", *words],
            self.network.inside(end), self.environment())

    def start(self):
        self.network = Network(self.mbit)
        self.sender = self.machine("sender", 0, self.options(False))
        if self.receiver_starts:
            self.receiver = self.machine("receiver", 1, self.options(True))
        self.sender.wait_ready(300)

    def remove(self):
        for machine in (self.sender, self.receiver):
            if machine:
                machine.end()
        if self.network:
            self.network.remove()

    def settle_s(self):
        return 1.0

    def settle(self):
        time.sleep(self.settle_s())

    def pin(self):
        """With two processors or more, what runs the guest has one of its
        own, as on a host that is not full; the receiver is on the other.  Not
        where the pause itself is work of several threads: they need both."""
        every = os.sched_getaffinity(0)
        if len(every) > 1 and self.pins:
            guest = {min(every)}
            self.sender.pin(guest, every - guest)
            if self.receiver:
                self.receiver.pin(every - guest, every - guest)

    def begin(self):
        if not self.free:
            self.pin()
        self.settle()
        self.sender.events()
        self.offset_ns = time.time_ns() - now_ns()
        self.usage = [m.usage() for m in self.machines()]
        self.sent = bytes_sent(self.sender.pid)
        self.begin_ns = now_ns()

    def wait(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(min(0.5, max(0, deadline - time.monotonic())))
            self.events += self.sender.events()

    def end(self):
        self.end_ns = now_ns()
        self.sent = bytes_sent(self.sender.pid) - self.sent
        self.usage = [[b - a for a, b in zip(before, m.usage())]
                      for before, m in zip(self.usage, self.machines())]
        self.rss = [m.rss() for m in self.machines()]
        self.events += self.sender.events()

    def machines(self):
        return [m for m in (self.sender, self.receiver) if m]

    def stopped(self):
        """Pauses told by STOP and RESUME, in ns of CLOCK_MONOTONIC."""
        return [(a - self.offset_ns, b - self.offset_ns)
                for a, b in figures.stops(self.events)
                if a - self.offset_ns >= self.begin_ns and
                b - self.offset_ns <= self.end_ns]

    def figures(self):
        """Only when all machines have ended."""
        beats, work = self.sender.recorded()
        seconds = (self.end_ns - self.begin_ns) / 1e9
        inside = figures.within(beats, self.begin_ns, self.end_ns)
        found = {
            "seconds": seconds,
            "beats_per_s": len(inside) / seconds,
            "work_per_s": figures.work_between(work, self.begin_ns,
                                               self.end_ns),
            "wire_bytes": self.sent,
            "first_round_s": self.first_round_s,
            "cpu_sender_vcpu": self.usage[0][0] / seconds,
            "cpu_sender_rest": self.usage[0][1] / seconds,
            "rss_sender": self.rss[0],
        }
        if self.receiver:
            found["cpu_receiver_vcpu"] = self.usage[1][0] / seconds
            found["cpu_receiver_rest"] = self.usage[1][1] / seconds
            found["rss_receiver"] = self.rss[1]
        found.update(self.measured())
        if "bounds_ns" not in found:
            step = max(self.load.interval_ms, 1) * 1000000
            found["bounds_ns"] = list(range(self.begin_ns, self.end_ns, step))
        gaps = figures.gaps(inside, found.pop("bounds_ns"))
        found["gaps_us"] = [gap for gap in gaps if gap is not None]
        found["pauses_and_gaps_us"] = [
            (pause, gap) for pause, gap in zip(found.get("pauses_us", []), gaps)
            if gap is not None]
        return found


class Stops(System):
    """A system whose pauses QEMU tells."""

    pins = False

    def measured(self):
        pauses = self.stopped()
        return {
            "pauses_us": [(b - a) / 1000 for a, b in pauses],
            "rounds": len(pauses),
            "lag_us": [(after[1] - before[0]) / 1000
                       for before, after in zip(pauses, pauses[1:])],
            "bounds_ns": [a for a, b in pauses],
            "timeline": [((a - self.begin_ns) / 1e9, (b - a) / 1000)
                         for a, b in pauses],
        }


class Stock(Stops):
    """Live migrations into a sink, one after the other, with cont."""

    name = "stock"

    def migrate(self):
        began = now_ns()
        self.sender.run("migrate", uri="exec:cat > /dev/null")
        wait_for("a migration", lambda: self.sender.run("query-migrate")
                 ["status"] in ("completed", "failed"), 120, 0.005)
        if self.sender.run("query-migrate")["status"] == "failed":
            raise Failed("a migration failed")
        self.sender.run("cont")
        return (now_ns() - began) / 1e9

    def protect(self):
        self.sender.run("migrate-set-parameters", max_bandwidth=1 << 40)
        self.first_round_s = self.migrate()

    def wait(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.migrate()
            time.sleep(self.load.interval_ms / 1000)
            self.events += self.sender.events()


class Colo(Stops):
    """Periodic checkpoints, no disk, no network card."""

    name = "colo"
    receiver_starts = True
    transport = "tcp"

    def options(self, receiver):
        return ["-incoming", "defer"] if receiver else []

    def uri(self):
        if self.transport == "unix":
            return "unix:" + os.path.join(self.folder, "colo")
        return "tcp:%s:%d" % (self.network.address, PORT)

    def protect(self):
        on = [{"capability": "x-colo", "state": True}]
        for machine in self.machines():
            machine.run("migrate-set-capabilities", capabilities=on)
        self.receiver.run("migrate-incoming", uri=self.uri())
        self.sender.run("migrate-set-parameters", max_bandwidth=1 << 40,
                        x_checkpoint_delay=self.load.interval_ms)
        began = now_ns()
        self.sender.run("migrate", uri=self.uri())
        try:
            wait_for("COLO", lambda: self.sender.run("query-migrate")
                     ["status"] in ("colo", "failed"), 60, 0.02)
        except Failed:
            raise Failed("does not converge")
        if self.sender.run("query-migrate")["status"] == "failed":
            raise Failed("COLO failed: %s" % self.sender.run("query-migrate"))
        self.first_round_s = (now_ns() - began) / 1e9


class ColoUnix(Colo):
    name = "colo-unix"
    transport = "unix"


class ColoShipped(Colo):
    """As upstream has it: nobody sets TCP_NODELAY."""

    name = "colo-shipped"

    def environment(self):
        return {"LD_PRELOAD": os.path.join(BUILD, "tests", "bench-nagle.so")}


class Curling(System):
    name = "curling"
    compress = "none"
    receiver_starts = True

    def options(self, receiver):
        if receiver:
            return ["-incoming", "curling:tcp:%s:%d" % (self.network.address,
                                                        PORT),
                    "-trace", "curling_disconnected", "-trace",
                    "curling_takeover", "-trace", "curling_started"]
        # None of them within the pause.
        return ["-trace", "curling_resumed", "-trace", "curling_shipped",
                "-trace", "curling_committed"]

    def protect(self):
        self.sender.run("curling-set", interval_ms=self.load.interval_ms,
                        compress=self.compress, **self.load.settings)
        self.receiver.run("curling-set", close_grace_ms=0)
        began = now_ns()
        self.sender.run("migrate", uri="curling:tcp:%s:%d" % (
            self.network.address, PORT))

        def state():
            info = self.sender.run("query-curling")
            if info["state"] == "failed":
                raise Failed(info["last-error"])
            return info["state"] == "protected"
        wait_for("Curling", state, 120, 0.02)
        self.first_round_s = (now_ns() - began) / 1e9

    def settle(self):
        """Until rounds are what they will be: the second may be long, too."""
        super().settle()
        wait_for("rounds", lambda: self.sender.run("query-curling")
                 ["rounds-committed"] > 2, 60, 0.1)

    def end(self):
        super().end()
        self.info = self.sender.run("query-curling")
        self.huge_bytes = self.sender.huge()
        every = os.sched_getaffinity(0)
        self.receiver.pin(every, every)
        self.killed_ns = self.sender.kill()
        wait_for("the takeover", lambda: self.receiver.run("query-curling")
                 ["state"] == "active", 30, 0.002)
        time.sleep(0.5)

    def takeover(self):
        """From SIGKILL to the first beat, and to what came in between."""
        beats, _ = self.receiver.recorded()
        after = [at for at in beats if at > self.killed_ns]
        steps = {event: at for at, event, _ in
                 self.receiver.traced(self.offset_ns)}
        ends = [steps.get("curling_" + name) for name in (
            "disconnected", "takeover", "started")] + after[:1]
        if None in ends or len(ends) < 4:
            return {"takeover_us": []}
        begins = [self.killed_ns] + ends[:-1]
        return {
            "takeover_us": [(ends[-1] - self.killed_ns) / 1000],
            "takeover_split_us": dict(zip(
                ("end of connection", "decision", "start", "first beat"),
                ((b - a) / 1000 for a, b in zip(begins, ends)))),
        }

    def measured(self):
        begin, end = self.begin_ns, self.end_ns
        done = [r for r in figures.rounds(self.sender.traced(self.offset_ns))
                if begin <= r.get("paused_ns", 0) and
                r.get("committed_ns", end + 1) <= end]
        return {
            "pauses_us": [r["pause_us"] for r in done],
            "rounds": len(done),
            "round_bytes": [r["bytes"] for r in done],
            "round_pages": [r["pages"] for r in done],
            "lag_us": [(after["committed_ns"] - before["paused_ns"]) / 1000
                       for before, after in zip(done, done[1:])],
            "bounds_ns": [r["paused_ns"] - figures.BEAT_NS for r in done],
            "timeline": [((r["paused_ns"] - begin) / 1e9, r["pause_us"])
                         for r in done],
            **self.takeover(),
            "raw_bytes": self.info["statistics"]["raw-bytes"]["p50"],
            "old_copies": self.info["memory-bytes"]["old-copies"],
            "huge_bytes": self.huge_bytes,
            "memory_peak": self.info["memory-bytes"]["peak"],
            "split_us": {name: part["p50"] for name, part in
                         self.info["pause-us"]["split"].items()},
        }


class CurlingDelta(Curling):
    name = "curling-delta"
    compress = "delta"

    def settle_s(self):
        """Until each page of the working set was dirty once, and more."""
        pages = self.load.mb << 8
        return max(1.0, 1.1 * pages / self.load.rate) if self.load.rate \
            else 1.0


class CurlingZstd(Curling):
    name = "curling-zstd"
    compress = "zstd"


class CurlingAuto(CurlingDelta):
    name = "curling-auto"
    compress = "auto"


SYSTEMS = {system.name: system for system in (
    System, Curling, CurlingDelta, CurlingZstd, CurlingAuto, Colo, ColoUnix,
    ColoShipped, Stock)}
