# Copyright the Curling authors
# SPDX-License-Identifier: GPL-2.0-or-later

"""QEMUs, the networks between them, and what the kernel says of both."""

import importlib.machinery
import importlib.util
import os
import signal
import subprocess
import time

BENCH = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(BENCH))
BUILD = os.path.join(TOP, "build")

_loader = importlib.machinery.SourceFileLoader(
    "qmp", os.path.join(TOP, "tests", "qmp"))
qmp = importlib.util.module_from_spec(
    importlib.util.spec_from_loader("qmp", _loader))
_loader.exec_module(qmp)

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")

# Longer than anything that is waited for on purpose
PATIENCE_S = 60


class Failed(Exception):
    pass


def now_ns():
    return time.monotonic_ns()


def wait_for(what, condition, timeout_s=60, pause_s=0.01):
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise Failed("waited %d s for %s" % (timeout_s, what))
        time.sleep(pause_s)


# Nobody outlives the benchmark.
BOUND = ["setpriv", "--pdeathsig", "KILL", "--"]


class Network:
    """Namespaces of their own, that go with the processes that hold them: both
    ends in one, over its loopback, or in two with a link of so many Mbit/s
    between them."""

    def __init__(self, mbit=0):
        self.holders = []
        self.address = "10.99.0.2" if mbit else "127.0.0.1"
        try:
            self._make(mbit)
        except subprocess.CalledProcessError as error:
            self.remove()
            raise Failed("cannot make a network: %s" % error)

    def _make(self, mbit):
        for end in range(2 if mbit else 1):
            self.holders.append(subprocess.Popen(
                [*BOUND, "unshare", "--net", "sleep", "infinity"]))
            wait_for("a network namespace", lambda: self._is_apart(end), 10)
            self._run(end, "ip", "link", "set", "lo", "up")
        if not mbit:
            return
        self._run(0, "ip", "link", "add", "wire", "type", "veth", "peer",
                  "name", "wire", "netns", str(self.holders[1].pid))
        for end in range(2):
            self._run(end, "ip", "addr", "add", "10.99.0.%d/24" % (end + 1),
                      "dev", "wire")
            self._run(end, "ip", "link", "set", "wire", "up")
            self._run(end, "tc", "qdisc", "add", "dev", "wire", "root", "tbf",
                      "rate", "%dmbit" % mbit, "burst", "256k",
                      "latency", "50ms")

    def _is_apart(self, end):
        try:
            return os.readlink(self._path(end)) != \
                os.readlink("/proc/self/ns/net")
        except OSError:
            return False

    def _path(self, end):
        return "/proc/%d/ns/net" % self.holders[end].pid

    def _run(self, end, *words):
        subprocess.run(self.inside(end) + list(words), check=True)

    def remove(self):
        for holder in self.holders:
            holder.kill()
            holder.wait()

    def inside(self, end):
        """The words before a command that runs at this end (0, 1)."""
        return ["nsenter", "--net=" +
                self._path(min(end, len(self.holders) - 1)), "--"]


def bytes_sent(pid):
    """By the network that this process is in, all interfaces."""
    with open("/proc/%d/net/dev" % pid) as file:
        return sum(int(line.split(":")[1].split()[8])
                   for line in file if ":" in line)


class Machine:
    """A QEMU.  Its guest's second serial port is recorded."""

    def __init__(self, folder, name, words, prefix=(), environment=None):
        self.name = name
        self.folder = folder
        self.monitor = None
        self.recorder = None
        self.errors = os.path.join(folder, name + ".err")
        beats = self._path("beats.socket")
        command = [*BOUND, *prefix,
                   os.path.join(BUILD, "bin", "qemu-system-x86_64"), "-name", name + ",debug-threads=on", "-nodefaults",
                   "-display", "none", "-msg", "timestamp=on",
                   "-chardev", "file,id=s0,path=" + self._path("serial"),
                   "-serial", "chardev:s0", "-chardev",
                   "socket,id=s1,server=on,wait=off,path=" + beats,
                   "-serial", "chardev:s1", "-qmp",
                   "unix:%s,server=on,wait=off" % self._path("qmp"), *words]
        with open(self.errors, "w") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=errors,
                stderr=errors, env={**os.environ, **(environment or {})})
        self.pid = self.process.pid
        wait_for("%s to start" % name, self._has_monitor)
        self.recorder = subprocess.Popen(
            [*BOUND, os.path.join(BUILD, "tests", "bench-record"), beats,
             self._path("beats")])

    def _path(self, what):
        return os.path.join(self.folder, "%s.%s" % (self.name, what))

    def _has_monitor(self):
        if self.process.poll() is not None:
            with open(self.errors) as file:
                raise Failed("%s ended: %s" % (self.name, file.read()))
        try:
            self.monitor = qmp.Monitor(self._path("qmp"), PATIENCE_S)
        except (OSError, qmp.Failed):
            return False
        return True

    def run(self, command, **arguments):
        """Underscores in names stand for hyphens."""
        self.monitor.deadline = time.monotonic() + PATIENCE_S
        try:
            return self.monitor.run(command, {
                name.replace("_", "-"): value
                for name, value in arguments.items()} or None)
        except qmp.Failed as error:
            raise Failed("%s: %s: %s" % (self.name, command, error))

    def events(self):
        """What has come by now, and is forgotten with that."""
        self.run("query-name")
        events, self.monitor.events = self.monitor.events, []
        return events

    def wait_ready(self, timeout_s=120):
        def ready():
            with open(self._path("serial")) as file:
                return "ready" in file.read()
        wait_for("the guest of " + self.name, ready, timeout_s)

    def usage(self):
        """Seconds of processor: of the vCPUs, and of all the rest."""
        vcpus = rest = 0
        tasks = "/proc/%d/task" % self.pid
        for task in os.listdir(tasks):
            with open("%s/%s/stat" % (tasks, task)) as file:
                text = file.read()
            fields = text[text.rindex(")") + 2:].split()
            seconds = (int(fields[11]) + int(fields[12])) / TICK
            if "CPU " in text[:text.rindex(")")]:
                vcpus += seconds
            else:
                rest += seconds
        return vcpus, rest

    def pin(self, guest, rest):
        """Its vCPUs and its main loop, which is the guest's timers and
        devices, to these processors, all else to those."""
        for task in os.listdir("/proc/%d/task" % self.pid):
            try:
                with open("/proc/%d/task/%s/comm" % (self.pid, task)) as file:
                    is_guest = int(task) == self.pid or \
                        file.read().startswith("CPU ")
                os.sched_setaffinity(int(task), guest if is_guest else rest)
            except (FileNotFoundError, ProcessLookupError):
                pass        # a thread that has ended meanwhile

    def rss(self):
        with open("/proc/%d/statm" % self.pid) as file:
            return int(file.read().split()[1]) * PAGE

    def huge(self):
        """Of its memory, what is in huge pages."""
        with open("/proc/%d/smaps_rollup" % self.pid) as file:
            return sum(int(line.split()[1]) << 10 for line in file
                       if line.startswith(("AnonHugePages", "ShmemPmdMapped",
                                           "Private_Hugetlb")))

    def kill(self):
        """SIGKILL; returns when that was."""
        at_ns = now_ns()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        return at_ns

    def end(self):
        """All of it is over; what was recorded can be read."""
        if self.process.poll() is None:
            self.kill()
        if self.recorder:
            try:
                self.recorder.wait(5)
            except subprocess.TimeoutExpired:
                self.recorder.terminate()
                self.recorder.wait()
        for what in ("qmp", "beats.socket"):
            if os.path.exists(self._path(what)):
                os.unlink(self._path(what))

    def recorded(self):
        """Beats: when each came, in ns.  Work: pairs of when and how much."""
        beats, work, number = [], [], None
        with open(self._path("beats")) as file:
            for line in file:
                when, _, octets = line.rstrip("\n").partition(" ")
                when = int(when)
                for octet in octets:
                    if octet == ".":
                        beats.append(when)
                    elif octet == "w":
                        number = 0
                    elif octet == "/" and number is not None:
                        work.append((when, number))
                        number = None
                    elif octet.isdigit() and number is not None:
                        number = number * 10 + int(octet)
        return beats, work

    def traced(self, offset_ns):
        """Curling's steps: lists of (when in ns of CLOCK_MONOTONIC, event,
        text); @offset_ns: of CLOCK_REALTIME to that."""
        steps = []
        with open(self._path("trace"), errors="replace") as file:
            for line in file:
                head, _, rest = line.partition(":")
                when = head.partition("@")[2]
                event, _, text = rest.partition(" ")
                if when and event.startswith("curling_"):
                    steps.append((int(float(when) * 1e6) * 1000 - offset_ns,
                                  event, text.rstrip("\n")))
        return steps
