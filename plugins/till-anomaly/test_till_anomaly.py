"""Till anomaly against a till whose rhythm is known."""

import math
import unittest
from datetime import datetime, timedelta, timezone
from typing import Any

import rhythm
from till_anomaly import till_anomaly
from tillstream import Harness


class Till:
    """Baskets of five items, one a minute, each item ten seconds after the other."""

    def __init__(self, **settings: Any) -> None:
        self.harness = Harness(till_anomaly, settings)
        self.now = datetime(2026, 1, 5, 8, tzinfo=timezone.utc)

    def event(self, type: str, seconds: float = 0.0, **data: Any) -> list[dict[str, Any]]:
        self.now += timedelta(seconds=seconds)
        data = {"employeeId": "E1", **data}
        return [event["data"] for event in self.harness.feed(f"pos.{type}", data, time=self.now.isoformat())]

    def basket(self, total: int = 2000, pause: float = 10.0) -> list[dict[str, Any]]:
        reports = self.event("basket.started", 10)
        for _ in range(5):
            reports += self.event("basket.item_added", pause)
        return reports + self.event("basket.subtotal_finalized", 0, total=total)

    def calm(self, baskets: int) -> list[dict[str, Any]]:
        return [report for number in range(baskets) for report in self.basket(1500 + 100 * (number % 10))]


class TillAnomaly(unittest.TestCase):
    def test_a_calm_till_gives_no_reports_whatever_its_habits(self) -> None:
        self.assertEqual(Till().calm(200), [])

    def test_a_basket_far_above_what_the_till_is_used_to_is_reported_with_both_figures(self) -> None:
        till = Till()
        till.calm(50)
        (report,) = till.basket(total=60_000)
        self.assertEqual((report["measure"], report["observed"], report["employeeId"]), ("basketValue", 60_000, "E1"))
        self.assertTrue(2000 < report["expected"] < 5000 and report["times"] > 8, report)

    def test_nothing_is_reported_while_it_warms_up(self) -> None:
        till = Till(warmupBaskets=100)
        till.calm(50)
        self.assertEqual(till.basket(total=60_000), [])

    def test_many_voids_are_reported_once_with_the_voids_that_they_are(self) -> None:
        till = Till()
        till.calm(60)
        reports = [report for _ in range(12) for report in till.event("basket.item_voided", 5)]
        (report,) = reports
        self.assertEqual(report["measure"], "voids")
        self.assertEqual(len(report["eventIds"]), report["observed"])
        self.assertGreater(report["observed"], 4 * report["expected"])

    def test_what_is_usual_at_a_till_is_not_reported_there(self) -> None:
        till = Till()
        learning = []
        for _ in range(300):
            learning += till.basket()
            learning += till.event("drawer.opened", 5, reason="no_sale")
        reports = []
        for _ in range(30):
            reports += till.basket() + till.event("drawer.opened", 5, reason="no_sale")
        self.assertEqual([report["measure"] for report in reports], [])

    def test_one_odd_value_does_not_move_what_is_usual(self) -> None:
        known: dict[str, Any] = {}
        for _ in range(200):
            rhythm.learn_high(known, 100.0, 0.98, 1000)
        before = known["high"]
        rhythm.learn_high(known, 1e9, 0.98, 1000)
        self.assertLess(math.exp(known["high"] - before), 1.5)

    def test_surprise_is_the_poisson_tail(self) -> None:
        for count, expected in ((1, 0.1), (5, 1.0), (12, 3.0)):
            below = sum(math.exp(-expected) * expected**k / math.factorial(k) for k in range(count))
            self.assertAlmostEqual(rhythm.tail(count, expected), -math.log10(1 - below), places=6)


if __name__ == "__main__":
    unittest.main()
