"""Precision and recall of the plugin against the labels of the rig: python score.py [--seed N] [--events N] [--anomalies F]

Needs the program `tillstream` (TILLSTREAM_BIN). The rig plays its shops, and writes down which of its events are anomalies; the plugin
sees the events in the order of each till, without Kafka. Only kinds that show in a till's rhythm are counted as missed.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections import Counter
from typing import Any

from till_anomaly import till_anomaly
from tillstream import Harness

# Which measure can see which kind of the rig's anomalies.
KINDS = {
    "void-rate": "voids",
    "no-sale-drawer": "drawerOpenings",
    "refunds-per-day": "refunds",
    "manual-discounts": "manualDiscounts",
    "high-value-basket": "basketValue",
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--events", type=int, default=200_000)
    arguments.add_argument("--anomalies", type=float, default=0.02)
    arguments.add_argument("--minimum", type=float, default=0.0, help="fail if precision or recall is below")
    given = arguments.parse_args()
    reports, labels = play(given.seed, given.events, given.anomalies)
    truth = {name: label["kind"] for label in labels for name in label["eventIds"]}
    print(f"{'kind':20} {'measure':16} {'labels':>6} {'found':>6} {'recall':>7}")
    found_all = wanted_all = 0
    for kind, measure in KINDS.items():
        reported = {name for report in reports if report["measure"] == measure for name in report["eventIds"]}
        wanted = [label for label in labels if label["kind"] == kind]
        found = sum(bool(reported & set(label["eventIds"])) for label in wanted)
        found_all, wanted_all = found_all + found, wanted_all + len(wanted)
        print(f"{kind:20} {measure:16} {len(wanted):6} {found:6} {found / len(wanted) if wanted else 1:7.3f}")
    right = Counter(report["measure"] for report in reports if any(name in truth for name in report["eventIds"]))
    made = Counter(report["measure"] for report in reports)
    print(f"\n{'measure':20} {'reports':>7} {'right':>6} {'precision':>9}")
    for measure, count in made.most_common():
        print(f"{measure:20} {count:7} {right[measure]:6} {right[measure] / count:9.3f}")
    precision, recall = sum(right.values()) / max(len(reports), 1), found_all / max(wanted_all, 1)
    print(
        f"\nprecision {precision:.3f} ({sum(right.values())} of {len(reports)}), recall {recall:.3f} ({found_all} of {wanted_all})"
    )
    if min(precision, recall) < given.minimum:
        sys.exit(f"below {given.minimum}")


def play(seed: int, events: int, anomalies: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What the plugin reports, and what was planted."""
    harness = Harness(till_anomaly)
    with tempfile.TemporaryDirectory() as directory:
        labels = pathlib.Path(directory) / "labels"
        rig = [os.environ.get("TILLSTREAM_BIN", "tillstream"), "rig", "--stores", "4", "--terminals", "10"]
        rig += ["--events", str(events), "--seed", str(seed), "--anomalies", str(anomalies), "--labels", str(labels)]
        with subprocess.Popen(rig, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            for line in process.stdout:
                event = json.loads(line)
                if not event.get("training"):  # as Tillstream leaves them out
                    harness.feed_event(event)
        if process.returncode != 0:
            sys.exit(f"the rig ended with {process.returncode}")
        planted = [json.loads(line) for line in labels.read_text().splitlines()]
    if harness.failures:
        sys.exit(f"{len(harness.failures)} events failed, the first with {harness.failures[0]!r}")
    return [event["data"] for event in harness.published], planted


if __name__ == "__main__":
    main()
