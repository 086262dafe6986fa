#!/usr/bin/python3
"""Compares `snapkeeper schedule preview --batch` with a brute-force reading of the rules.

The rules are those of common/model/cron.h. Nothing here searches fields or asks for folds and gaps: every civil minute of
every matching day is taken, every offset that the zone has in those days is tried on it, and the offset that holds at the
resulting instant counts. Expressions are parsed by regular expressions into plain sets.

Prints `N compared, M mismatches`; exit 1 on a mismatch. --seed and --cases replay a run.
"""

import argparse
import bisect
import json
import random
import re
import subprocess
import sys
import tempfile
import zoneinfo
from datetime import date, datetime, timedelta, timezone

UTC = timezone.utc
EPOCH = date(1970, 1, 1).toordinal()
DAY = 86400
LAST = 253402300799  # 9999-12-31T23:59:59Z
MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()
DAYS = "SUN MON TUE WED THU FRI SAT".split()
FIELDS = [(0, 59, 59, {}), (0, 23, 23, {}), (1, 31, 31, {}),
          (1, 12, 12, {n: i + 1 for i, n in enumerate(MONTHS)}),
          (0, 6, 7, {n: i for i, n in enumerate(DAYS)})]
MACROS = {"@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
          "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *"}
UNITS = {"h": 3600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
ITEM = re.compile(r"(?:([*?])|(\d+|[A-Z]{3})(?:-(\d+|[A-Z]{3}))?)(?:/(\d+))?", re.I)


class Invalid(Exception):
    pass


def parse_field(text, low_limit, top, high_limit, names):
    def value(word):
        number = names.get(word.upper(), word)
        if not str(number).isdigit() or not low_limit <= int(number) <= high_limit:
            raise Invalid(word)
        return int(number)

    chosen, star = set(), False
    for item in text.split(","):
        match = ITEM.fullmatch(item)
        if not match:
            raise Invalid(item)
        wild, first, last, step = match.groups()
        step_size = int(step) if step else 1
        if step_size == 0:
            raise Invalid(item)
        if wild:
            low, high = low_limit, top
            star = star or step_size == 1
        else:
            low = value(first)
            high = value(last) if last else max(low, top) if step else low
        if low > high:
            raise Invalid(item)
        chosen.update(range(low, high + 1, step_size))
    return chosen, star


def parse(expression):
    """('every', seconds) or ('cron', minutes, hours, day predicate, months)."""
    words = expression.split()
    if words and words[0] == "@every":
        if len(words) != 2 or not re.fullmatch(r"((\d+\.?\d*|\.\d+)(h|ms|us|ns|m|s))+", words[1]):
            raise Invalid(expression)
        total = 0
        for number, unit in re.findall(r"([\d.]+)(h|ms|us|ns|m|s)", words[1]):
            whole, _, fraction = number.partition(".")
            total += int(whole or "0") * UNITS[unit]
            total += int(fraction or "0") * UNITS[unit] // 10 ** len(fraction)
        if total % 10**9 or not 10**9 <= total <= 8760 * UNITS["h"]:
            raise Invalid(expression)
        return "every", total // 10**9
    if len(words) == 1:
        words = MACROS.get(words[0], "").split()
    if len(words) != 5:
        raise Invalid(expression)
    (minutes, _), (hours, _), (days, any_day), (months, _), (weekdays, any_weekday) = (
        parse_field(word, *rule) for word, rule in zip(words, FIELDS))
    weekdays = {d % 7 for d in weekdays}
    if any_weekday and not any(d <= (29 if m == 2 else 30 if m in (4, 6, 9, 11) else 31) for d in days for m in months):
        raise Invalid("never")

    def day_matches(day):
        by_month, by_week = day.day in days, day.isoweekday() % 7 in weekdays
        return by_month and by_week if any_day or any_weekday else by_month or by_week

    return "cron", sorted(minutes), sorted(hours), day_matches, months


class Zone:
    def __init__(self, name):
        self.name = name
        self.info = zoneinfo.ZoneInfo(name)
        self.samples = {}
        self._changes = None

    def offset(self, second):
        delta = datetime.fromtimestamp(second, tz=self.info).utcoffset()
        return delta.days * DAY + delta.seconds

    def day_samples(self, day):
        """Offsets every three hours of a UTC day, counted from 1970-01-01."""
        if day not in self.samples:
            self.samples[day] = [self.offset(day * DAY + hour * 3600) for hour in range(0, 24, 3)]
        return self.samples[day]

    def first_with(self, before, after):
        """The second of the change of offset between two seconds."""
        old = self.offset(before)
        return before + 1 + bisect.bisect_left(range(before + 1, after + 1), True, key=lambda s: self.offset(s) != old)

    def pieces_around(self, day):
        """The stretches of one offset in the three days around: [first second, first second of the next, offset]."""
        times = [d * DAY + h * 3600 for d in (day - 1, day, day + 1) for h in range(0, 24, 3)] + [(day + 2) * DAY]
        pieces = [[times[0], None, self.offset(times[0])]]
        for early, late in zip(times, times[1:]):
            if self.offset(late) != pieces[-1][2]:
                pieces[-1][1] = self.first_with(early, late)
                pieces.append([pieces[-1][1], None, self.offset(late)])
        pieces[-1][1] = times[-1] + 1
        return pieces

    def changes(self):
        """Pairs of seconds between which the offset changes, 1970 to 2100."""
        if self._changes is None:
            times = range(0, 131 * 365 * DAY, 20 * DAY)
            offsets = [self.offset(t) for t in times]
            self._changes = [(times[i], times[i + 1]) for i in range(len(times) - 1) if offsets[i] != offsets[i + 1]]
        return self._changes


def instants_of_day(zone, ordinal, minutes, hours, after, count):
    """What fires for the civil minutes of one day; on a day without a change of offset no more than needed."""
    day = ordinal - EPOCH
    offsets = {o for d in (day - 1, day, day + 1) for o in zone.day_samples(d)}
    every_hour = len(hours) == 24
    found = []
    if len(offsets) == 1:
        offset = offsets.pop()
        for hour in hours:
            base = day * DAY + hour * 3600 - offset
            if base + 3540 <= after:
                continue
            found += [base + minute * 60 for minute in minutes if base + minute * 60 > after]
            if len(found) >= count:
                break
        return found
    pieces = zone.pieces_around(day)
    for hour in hours:
        for minute in minutes:
            civil = day * DAY + hour * 3600 + minute * 60
            real = [civil - offset for first, end, offset in pieces if first <= civil - offset < end]
            if every_hour:
                found += real
            elif real:
                found.append(min(real))
            else:
                found += [then[0] for now, then in zip(pieces, pieces[1:])
                          if now[1] - 1 + now[2] < civil < then[0] + then[2]]
    return [t for t in found if t > after]


def expected(expression, zone, after, count):
    rule = parse(expression)
    if rule[0] == "every":
        first = after // rule[1] + 1
        return [t for t in (k * rule[1] for k in range(first, first + count)) if t <= LAST]
    _, minutes, hours, day_matches, months = rule
    found, ordinal, enough = set(), EPOCH + after // DAY - 2, None
    while ordinal <= date.max.toordinal() - 2 and (enough is None or ordinal <= enough):
        day = date.fromordinal(ordinal)
        if day.month not in months:
            ordinal += 1 if day.day > 1 else 28
            continue
        if day_matches(day):
            found.update(instants_of_day(zone, ordinal, minutes, hours, after, count))
            if enough is None and len(found) >= count:
                enough = ordinal + 2  # an offset moves an instant by a day at most
        ordinal += 1
    return sorted(t for t in found if t <= LAST)[:count]


def random_field(rng, index, near):
    low, top, limit, names = FIELDS[index]

    def value():
        number = near if near is not None and rng.random() < 0.5 else rng.randint(low, limit)
        for name, named in names.items():
            if named == number and rng.random() < 0.4:
                return rng.choice([name, name.lower(), name.title()])
        return rng.choice([str(number)] * 9 + [f"{number:02}"])

    def item():
        kind = rng.random()
        if kind < 0.15:
            return rng.choice("*?") + rng.choice(["", "/1", "/2", f"/{rng.randint(1, 70)}"])
        if kind < 0.55:
            return value()
        if kind < 0.7:
            return f"{value()}/{rng.randint(1, 30)}"
        ends = sorted((rng.randint(low, limit), near if near is not None else rng.randint(low, limit)))
        return f"{ends[0]}-{ends[1]}" + (f"/{rng.randint(1, 9)}" if kind > 0.85 else "")

    star = (0.15, 0.35, 0.6, 0.6, 0.6)[index]
    if rng.random() < star:
        return rng.choice(["*"] * 8 + ["?", "*/1"] + (["0-23", "*/1,5", "0-11,12-23"] if index == 1 else []))
    return ",".join(item() for _ in range(rng.choice((1, 1, 1, 2, 3))))


def random_expression(rng, near):
    kind = rng.random()
    if kind < 0.03:
        return rng.choice(list(MACROS))
    if kind < 0.06:
        return "@every " + rng.choice([f"{rng.randint(0, 400000)}s", f"{rng.randint(1, 9000)}h", f"{rng.randint(1, 99)}m",
                                       f"{rng.randint(0, 30)}h{rng.randint(0, 70)}m{rng.randint(0, 70)}s", "1.5h", "0.1h", "1.5s",
                                       f"{rng.randint(1, 5000)}ms", "1000000us", "5", "s", ".5m", "1.m", "500ms500ms", ""])
    fields = [random_field(rng, index, None if near is None else near[index]) for index in range(5)]
    if kind < 0.1:  # mostly invalid
        spoiled = rng.randrange(5)
        fields[spoiled] = rng.choice(["", ",", "1,", "*-5", "5-*", "60", "32", "13", "8", "24", "*/0", "5/0", "9-3", "FRI-MON",
                                      "L", "1W", "1#2", "-1", "+1", "1-2-3", "1/2/3", "*/", "/5", "JANU", "1.5", "FRI-SUN",
                                      "99999999999999999999", "*/99999999999999999999", "7-7", "5-7", "**", "*5", "?-3"])
    return " ".join(fields)


def random_case(rng, zones):
    zone = rng.choice(zones)
    changes = zone.changes()
    near = None
    if changes and rng.random() < 0.8:
        change = zone.first_with(*rng.choice(changes))
        second = rng.choice([change - 1, change])
        local = datetime.fromtimestamp(second + rng.choice([0, 0, 900, -900, 1800, 3600, -3600]), tz=UTC)
        local += timedelta(seconds=zone.offset(second))
        near = (local.minute, local.hour, local.day, local.month, local.isoweekday() % 7)
        after = change + rng.choice([0, -1, 1, rng.randint(-7200, 7200), rng.randint(-100000, 100000), rng.randint(-40 * DAY, DAY)])
    else:
        after = rng.randint(0, rng.choice([131 * 365 * DAY] * 9 + [LAST]))
    return {"schedule": random_expression(rng, near), "timeZone": zone.name, "after": rfc3339(after),
            "count": rng.choice([1, 2, 3, 4, 5, 8, 13])}, zone, after


def rfc3339(second):
    return f"{datetime.fromtimestamp(second, tz=UTC):%Y-%m-%dT%H:%M:%S}Z"


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--snapkeeper", required=True, help="the program")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--cases", type=int, default=20000)
    args = options.parse_args()

    rng = random.Random(args.seed)
    names = sorted(n for n in zoneinfo.available_timezones() if n not in ("localtime", "posixrules"))
    zones = [Zone(name) for name in names]
    cases = [random_case(rng, zones) for _ in range(args.cases)]
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as batch:
        batch.writelines(json.dumps(case) + "\n" for case, _, _ in cases)
        batch.flush()
        answer = subprocess.run([args.snapkeeper, "schedule", "preview", "--batch", batch.name, "-o", "json"],
                                stdout=subprocess.PIPE, text=True, check=True)
    lines = answer.stdout.splitlines()
    if len(lines) != len(cases):
        sys.exit(f"{len(cases)} lines in, {len(lines)} lines out")

    mismatches = refused = 0
    for (case, zone, after), line in zip(cases, lines):
        got = json.loads(line)
        try:
            want = {"instants": [rfc3339(t) for t in expected(case["schedule"], zone, after, case["count"])]}
        except Invalid:
            refused += 1
            want = {"error": got.get("error") or "an error"}
        if got != want:
            mismatches += 1
            if mismatches <= 20:
                print(f"case {json.dumps(case)}\n  want {json.dumps(want)}\n  got  {line}")
    print(f"{len(cases)} compared, {mismatches} mismatches (seed {args.seed}, {refused} refused by both)")
    return 1 if mismatches else 0


if __name__ == "__main__":
    sys.exit(main())
