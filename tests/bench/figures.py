# Copyright the Curling authors
# SPDX-License-Identifier: GPL-2.0-or-later

"""Numbers from what was recorded."""

import bisect
import math

BEAT_NS = 2000000


def percentile(values, percent):
    """By nearest rank; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def summary(values):
    return {"n": len(values), "p50": percentile(values, 50),
            "p95": percentile(values, 95), "p99": percentile(values, 99),
            "max": max(values, default=None)}


def within(times, begin, end):
    """Of sorted times."""
    return times[bisect.bisect_left(times, begin):bisect.bisect_right(times,
                                                                      end)]


def gaps(beats, bounds):
    """How much longer than it should be is the longest gap between two beats
    that ends after one bound and not after the next; in us, for each, None
    where there is no beat."""
    longest = []
    for begin, end in zip(bounds, bounds[1:]):
        first = bisect.bisect_right(beats, begin)
        last = bisect.bisect_right(beats, end)
        found = [beats[i] - beats[i - 1] for i in range(max(first, 1), last)]
        longest.append(max(0, max(found) - BEAT_NS) / 1000 if found else None)
    return longest


def work_between(work, begin, end):
    """Pages a second, between the first and the last report."""
    inside = [item for item in work if begin <= item[0] <= end]
    if len(inside) < 2 or inside[-1][0] == inside[0][0]:
        return None
    return (inside[-1][1] - inside[0][1]) * 1e9 / (inside[-1][0] - inside[0][0])


def stops(events):
    """Pauses that QEMU tells by STOP and RESUME: pairs of ns, CLOCK_REALTIME."""
    pauses, began = [], None
    for event in events:
        when = (event["timestamp"]["seconds"] * 1000000 +
                event["timestamp"]["microseconds"]) * 1000
        if event["event"] == "STOP":
            began = when
        elif event["event"] == "RESUME" and began is not None:
            pauses.append((began, when))
            began = None
    return pauses


def rounds(steps):
    """Curling's rounds from its trace, in order: dicts of when (ns of
    CLOCK_MONOTONIC) and how much."""
    found = {}
    for when, event, text in steps:
        words = text.replace(":", "").replace(",", "").split()
        if len(words) < 2 or words[0] != "round" or not words[1].isdigit():
            continue
        item = found.setdefault(int(words[1]), {"number": int(words[1])})
        if event == "curling_resumed":
            # N guest resumed after N us N pages paused at N ns
            item["pause_us"] = int(words[5])
            item["pages"] = int(words[7])
            item["paused_ns"] = int(words[11])
        elif event == "curling_shipped":
            item["bytes"] = int(words[2])
        elif event == "curling_committed":
            item["committed_ns"] = when
    return [found[number] for number in sorted(found)]
