# Copyright the Curling authors
# SPDX-License-Identifier: GPL-2.0-or-later

"""A table for people, JSON for tools, charts, and what was to be reached."""

import json
import os
import subprocess

from figures import percentile, summary

PAGE = 4096
MIB = 1 << 20

# Of one beat: what the guest itself, the recorder and a busy host make late
# more often than not shows in the guest alone; it is taken from that.
BEAT_US = 2000

LISTS = ("pauses_us", "gaps_us", "lag_us", "round_bytes", "round_pages",
         "takeover_us", "pauses_and_gaps_us", "timeline")
SCALARS = ("beats_per_s", "work_per_s", "first_round_s", "cpu_sender_vcpu",
           "cpu_sender_rest", "cpu_receiver_vcpu", "cpu_receiver_rest",
           "rss_sender", "rss_receiver", "memory_peak", "raw_bytes",
           "old_copies", "huge_bytes")


def merge(results):
    """Of all turns: by (load, system, mbit)."""
    merged = {}
    for item in results:
        key = (item["load"], item["system"], item["mbit"])
        one = merged.setdefault(key, {"failed": [], "turns": []})
        if "failed" in item:
            one["failed"].append(item["failed"])
        else:
            one["turns"].append(item)
    for one in merged.values():
        turns = one["turns"]
        for name in LISTS:
            one[name] = [value for turn in turns for value in
                         turn.get(name, [])]
        for name in SCALARS:
            one[name] = percentile([turn[name] for turn in turns
                                    if turn.get(name) is not None], 50)
        seconds = sum(turn["seconds"] for turn in turns)
        rounds = sum(turn.get("rounds", 0) for turn in turns)
        one["rounds_per_s"] = rounds / seconds if seconds else None
        one["wire_per_round"] = sum(turn["wire_bytes"] for turn in turns) / \
            rounds if rounds else None
    return merged


def against_alone(results, merged):
    """Work and beats as a part of what the guest alone reached in the same
    turn: the median of the turns, in percent."""
    alone = {(item["load"], item["turn"]): item for item in results
             if item["system"] == "alone" and "failed" not in item}
    for one in merged.values():
        for name in ("work", "beats"):
            parts = []
            for turn in one["turns"]:
                base = alone.get((turn["load"], turn["turn"]))
                if base and base[name + "_per_s"]:
                    parts.append(100 * turn[name + "_per_s"] /
                                 base[name + "_per_s"])
            one[name + "_percent"] = percentile(parts, 50)


def agreement(merged):
    """Does the reported pause agree with the gaps in the beats?  The guest
    does not beat while it is paused, and beats as ever right before and after:
    for each round the longest gap around it is neither shorter than its pause
    nor longer by more than a beat and what the guest alone shows."""
    for (load, system, mbit), one in merged.items():
        alone = merged.get((load, "alone", 0))
        pairs = one["pauses_and_gaps_us"]
        if not pairs or not alone or not alone["gaps_us"]:
            continue
        jitter_us = percentile(alone["gaps_us"], 99)
        wrong = [(pause, gap) for pause, gap in pairs
                 if gap > pause + jitter_us + 200 or
                 gap < pause - BEAT_US - 200]
        one["disagree_percent"] = 100 * len(wrong) / len(pairs)
        one["jitter_us"] = jitter_us


class Targets:
    """What was to be reached, and was it?"""

    def __init__(self, merged, loads):
        self.merged = merged
        self.loads = loads
        self.found = []

    def get(self, load, system, name, mbit=0, percent=50):
        one = self.merged.get((load, system, mbit))
        value = one.get(name) if one else None
        if isinstance(value, list):
            return percentile(value, percent)
        return value

    def check(self, what, value, limit, at_most=True, goal=False, unit=""):
        if value is None:
            verdict = "not measured"
        elif (value <= limit) if at_most else (value >= limit):
            verdict = "met"
        else:
            verdict = "missed"
        self.found.append({"what": what, "value": value, "limit": limit,
                           "at_most": at_most, "goal": goal, "unit": unit,
                           "verdict": verdict})

    def ratio(self, a, b):
        return a / b if a is not None and b else None

    def pauses(self):
        for mbit, load, limit in ((0, "L1", 8), (0, "L2", 30), (0, "L3", 200),
                                  (1000, "L1", 30), (1000, "L2", 200)):
            self.check("%s%s: COLO's median pause is so many times Curling's" %
                       (load, " at 1 Gbit/s" if mbit else ""),
                       self.ratio(self.get(load, "colo", "pauses_us", mbit),
                                  self.get(load, "curling", "pauses_us",
                                           mbit)), limit, at_most=False)
        for system in ("curling", "curling-auto"):
            self.check("L3 at 1 Gbit/s: guest's work with %s, against alone" %
                       system, self.get("L3", system, "work_percent", 1000),
                       90, at_most=False, unit="%")
        floor = self.get("L0", "curling", "pauses_us")
        self.check("L0: median pause of an idle guest (the floor)", floor, 200,
                   goal=True, unit="us")
        for load in ("L1", "L2", "L3"):
            for percent, limit in ((50, 1.25), (99, 3)):
                self.check("%s: p%d of pauses against the floor" %
                           (load, percent), self.ratio(
                               self.get(load, "curling", "pauses_us",
                                        percent=percent), floor),
                           limit, goal=True)

    def speed(self):
        for load, limit in (("L1", 99.5), ("L2", 99), ("L3", 99), ("L4", 98),
                            ("L5", 95)):
            for name in ("work", "beats"):
                self.check("%s: guest's %s, against alone" % (load, name),
                           self.get(load, "curling", name + "_percent"),
                           limit, at_most=False, unit="%")
        for load, limit in (("L4", 45), ("L5", 180)):
            self.check("%s: rounds a second" % load,
                       self.get(load, "curling", "rounds_per_s"), limit,
                       at_most=False)
            lag = self.get(load, "curling", "lag_us", percent=100)
            self.check("%s: longest lag" % load,
                       None if lag is None else lag / 1000,
                       self.loads[load].interval_ms + 10, unit="ms")

    def bytes(self):
        one = self.merged.get(("L1-random", "curling", 0))
        idle = self.get("L0", "curling", "round_pages")
        per_page = extra = None
        if one and one["round_pages"]:
            pages = sum(one["round_pages"])
            per_page = sum(one["round_bytes"]) / pages / PAGE
            load = self.loads["L1-random"]
            if idle is not None:
                written = load.rate * sum(turn["seconds"] for turn in
                                          one["turns"])
                extra = 100 * ((pages - idle * len(one["round_pages"])) /
                               written - 1)
        self.check("L1, random pages: bytes of a dirty page, in pages",
                   per_page, 1.02)
        self.check("L1, random pages: sent again because of passes", extra,
                   15, unit="%")

    def passes(self):
        """How many more pages are staged than the guest has written."""
        for load in ("L2", "L3"):
            one = self.merged.get((load, "curling", 0))
            idle = self.get("L0", "curling", "round_pages")
            extra = None
            if one and one["rounds_per_s"] and idle is not None:
                pages = sum(one["round_pages"]) / len(one["round_pages"])
                what = self.loads[load]
                written = min(what.mb * MIB // PAGE,
                              what.rate / one["rounds_per_s"])
                extra = 100 * ((pages - idle) / written - 1)
            self.check("%s: sent again because of passes" % load, extra, 15,
                       unit="%")

    def compression(self):
        for load in ("L1", "L2"):
            self.check("%s: bytes of a round with compress=delta, so many "
                       "times fewer" % load, self.ratio(
                           self.get(load, "curling-delta", "raw_bytes"),
                           self.get(load, "curling-delta", "round_bytes")),
                       20, at_most=False)
            for system in ("curling-delta", "curling-auto"):
                self.check("%s: median pause of %s against compress=none" %
                           (load, system), self.ratio(
                               self.get(load, system, "pauses_us"),
                               self.get(load, "curling", "pauses_us")), 1.1)

    def memory(self):
        self.check("L1 with 8 GiB against 512 MiB: median pause",
                   self.ratio(self.get("L1-8G", "curling", "pauses_us"),
                              self.get("L1", "curling", "pauses_us")), 1.5)
        self.check("L1 with 8 GiB against 512 MiB: processor of the sender "
                   "beside its vCPU",
                   self.ratio(self.get("L1-8G", "curling", "cpu_sender_rest"),
                              self.get("L1", "curling", "cpu_sender_rest")),
                   1.5)
        for load in ("L1", "L2", "L1-2G", "L1-8G"):
            rss = self.get(load, "curling", "rss_receiver")
            rounds = self.get(load, "curling", "round_bytes", percent=100)
            self.check("%s: receiver's memory beside guest RAM and two rounds"
                       % load, None if rss is None or rounds is None else
                       rss / MIB - self.loads[load].ram_mb - 2 * rounds / MIB,
                       64, unit="MiB")

    def takeover(self):
        took = [us / 1000 for one in self.merged.values()
                for us in one["takeover_us"]]
        self.check("SIGKILL to the first beat at the receiver, all loads",
                   percentile(took, 50), 20, unit="ms")

    def outside(self):
        for load in ("L0", "L1", "L2", "L3", "L4", "L5"):
            self.check("%s: rounds whose reported pause the beats contradict"
                       % load,
                       self.get(load, "curling", "disagree_percent"), 2,
                       unit="%")

    def all(self):
        for part in (self.pauses, self.speed, self.bytes, self.passes,
                     self.compression, self.memory, self.takeover,
                     self.outside):
            part()
        return self.found


def number(value, digits=2, scale=1):
    return "-" if value is None else "%.*f" % (digits, value / scale)


COLUMNS = (
    ("pause ms: p50", 8, lambda o: number(percentile(o["pauses_us"], 50), 2,
                                          1000)),
    ("p95", 8, lambda o: number(percentile(o["pauses_us"], 95), 2, 1000)),
    ("p99", 8, lambda o: number(percentile(o["pauses_us"], 99), 2, 1000)),
    ("max", 8, lambda o: number(max(o["pauses_us"], default=None), 2, 1000)),
    ("gap p50", 8, lambda o: number(percentile(o["gaps_us"], 50), 2, 1000)),
    ("gap p99", 8, lambda o: number(percentile(o["gaps_us"], 99), 2, 1000)),
    ("rounds/s", 9, lambda o: number(o["rounds_per_s"], 1)),
    ("work %", 7, lambda o: number(o["work_percent"], 1)),
    ("beats %", 8, lambda o: number(o["beats_percent"], 1)),
    ("KiB/round", 10, lambda o: number(o["wire_per_round"], 0, 1024)),
    ("lag ms p50", 11, lambda o: number(percentile(o["lag_us"], 50), 1, 1000)),
    ("max", 8, lambda o: number(max(o["lag_us"], default=None), 1, 1000)),
    ("CPU % vcpu", 11, lambda o: number(o["cpu_sender_vcpu"], 0, 0.01)),
    ("send", 5, lambda o: number(o["cpu_sender_rest"], 0, 0.01)),
    ("recv", 5, lambda o: number(o["cpu_receiver_rest"], 0, 0.01)),
    ("2nd vcpu", 9, lambda o: number(o["cpu_receiver_vcpu"], 0, 0.01)),
    ("RSS MiB send", 13, lambda o: number(o["rss_sender"], 0, MIB)),
    ("recv", 6, lambda o: number(o["rss_receiver"], 0, MIB)),
    ("round 0 s", 10, lambda o: number(o["first_round_s"], 2)),
    ("kill-beat ms", 13, lambda o: number(percentile(o["takeover_us"], 50), 1,
                                          1000)),
)


def table(merged, loads):
    lines, before = [], None
    for (load, system, mbit), one in sorted(merged.items(), key=lambda item: (
            list(loads).index(item[0][0]), item[0][2])):
        if load != before:
            lines += ["", "%s: %s" % (load, loads[load].what), "%-21s" %
                      "" + "".join("%*s" % (width, title)
                                   for title, width, _ in COLUMNS)]
            before = load
        name = system + (" %d Mbit/s" % mbit if mbit else "")
        if one["turns"]:
            lines.append("%-21s" % name + "".join(
                "%*s" % (width, cell(one)) for _, width, cell in COLUMNS))
        for why in sorted(set(one["failed"])):
            lines.append("%-21s %s (%d times)" % (name, why,
                                                  one["failed"].count(why)))
    return lines[1:]


SPLIT = ("stop", "dirty-sync", "ram", "devices", "resume")


def splits(merged):
    """Where the median pause of Curling goes, as it reports itself."""
    lines = ["", "%-21s%s" % ("Parts of a pause, us",
                              "".join("%12s" % name for name in SPLIT))]
    for (load, system, mbit), one in merged.items():
        if system == "curling" and one["turns"]:
            lines.append("%-21s%s" % (
                load + (" %d Mbit/s" % mbit if mbit else ""),
                "".join("%12d" % percentile([turn["split_us"][name]
                                             for turn in one["turns"]], 50)
                        for name in SPLIT)))
    return lines


TAKEOVER = ("end of connection", "decision", "start", "first beat")


def takeovers(merged):
    """Medians of the parts of what a takeover takes, over all loads."""
    splits = [turn["takeover_split_us"] for one in merged.values()
              for turn in one["turns"] if "takeover_split_us" in turn]
    lines = ["", "From SIGKILL to the first beat, medians of %d, ms" %
             len(splits)]
    for name in TAKEOVER:
        lines.append("    until %-20s%10s" % (name, number(percentile(
            [split[name] for split in splits], 50), 1, 1000)))
    return lines


def verdicts(targets):
    lines = ["", "Targets ('goal': beyond acceptance)"]
    for item in targets:
        lines.append("%-12s %-62s %10s, %s %g%s%s" % (
            item["verdict"], item["what"], number(item["value"]),
            "at most" if item["at_most"] else "at least", item["limit"],
            item["unit"] and " " + item["unit"],
            " (goal)" if item["goal"] else ""))
    return lines


def plot(out, name, title, axes, series):
    """An SVG of points, with gnuplot; @series: name and pairs."""
    script = ["set terminal svg size 900,500 background 'white'",
              "set output '%s'" % os.path.join(out, name),
              "set title '%s'" % title, "set key outside", "set grid",
              "set logscale y", "set xlabel '%s'" % axes[0],
              "set ylabel '%s'" % axes[1]]
    series = [(label, points) for label, points in series if points]
    if not series:
        return
    script.append("plot " + ", ".join(
        "'-' title '%s' with points pointtype 7 pointsize 0.3" % label
        for label, _ in series))
    for _, points in series:
        script += ["%g %g" % point for point in points] + ["e"]
    subprocess.run(["gnuplot"], input="\n".join(script).encode(), check=True)


def charts(out, merged):
    for load in ("L1", "L2", "L3", "L5"):
        plot(out, "pause-over-time-%s.svg" % load,
             "Pauses under %s" % load, ("time in s", "pause in ms"),
             [(system, [(at, pause / 1000) for at, pause in one["turns"][0]
                        .get("timeline", [])])
              for (name, system, mbit), one in merged.items()
              if name == load and not mbit and one["turns"]])
    plot(out, "pause-by-dirty-pages.svg", "Pauses by dirty pages of the round",
         ("dirty pages", "pause in ms"),
         [(name, [(pages, pause / 1000) for pages, pause in
                  zip(one["round_pages"], one["pauses_us"])])
          for (name, system, mbit), one in merged.items()
          if system == "curling" and not mbit])


def write(results, loads, options):
    """Everything into options.out; the exit status."""
    with open(os.path.join(options.out, "raw.json"), "w") as file:
        json.dump(results, file)
    merged = merge(results)
    against_alone(results, merged)
    agreement(merged)
    targets = Targets(merged, loads).all()
    text = "\n".join(table(merged, loads) + splits(merged) +
                     takeovers(merged) + verdicts(targets)) + "\n"
    print(text, end="")
    with open(os.path.join(options.out, "results.txt"), "w") as file:
        file.write(text)
    with open(os.path.join(options.out, "results.json"), "w") as file:
        json.dump({
            "seconds": options.seconds, "repeat": options.repeat,
            "targets": targets,
            "figures": [{
                "load": load, "system": system, "mbit": mbit,
                "failed": one["failed"],
                **{name: summary(one[name]) for name in LISTS
                   if name not in ("pauses_and_gaps_us", "timeline")},
                **{name: [turn[name] for turn in one["turns"] if name in turn]
                   for name in ("split_us", "takeover_split_us")},
                **{name: value for name, value in one.items()
                   if isinstance(value, (int, float))}}
                for (load, system, mbit), one in merged.items()],
        }, file, indent=1)
    charts(options.out, merged)
    return 1 if any(one["failed"] and not one["turns"] and
                    key[1] in ("alone", "curling")
                    for key, one in merged.items()) else 0
