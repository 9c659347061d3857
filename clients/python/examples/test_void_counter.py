"""The example without Kafka: python -m unittest test_void_counter"""

import unittest

from tillstream import Harness
from void_counter import void_counter


class VoidCounter(unittest.TestCase):
    def test_the_limit_is_reported_once_for_each_basket(self) -> None:
        till = Harness(void_counter, settings={"limit": 2})
        void = {"basketId": "B1", "line": 1}
        self.assertEqual(till.feed("pos.basket.item_voided", void), [])
        (report,) = till.feed("pos.basket.item_voided", void)
        self.assertEqual(report["data"], {"basketId": "B1", "voids": 2})
        self.assertEqual(till.feed("pos.basket.item_voided", void), [])
        till.feed("pos.basket.started", {"basketId": "B2"})
        self.assertEqual(till.state("T0001"), {})


if __name__ == "__main__":
    unittest.main()
