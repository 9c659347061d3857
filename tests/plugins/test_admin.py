"""A plugin in another language in the admin, in Chromium: `admin.mjs` beside Tillstream on a real broker.

Needs TILLSTREAM_TEST_KAFKA, TILLSTREAM_BIN, PLUGIN_PYTHON and CHROMIUM, and the packages of tests/browser (`scripts/test` sees to it).
"""

import json
import os
import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from shop import Shop

HERE = pathlib.Path(__file__).parent


class InTheAdmin(unittest.TestCase):
    def test_what_a_manager_sees_and_does(self):
        shop = Shop(os.environ["TILLSTREAM_TEST_KAFKA"], os.environ["TILLSTREAM_BIN"], "counter")
        self.addCleanup(shop.end)
        manifest = {"protocol": 1, "version": "1", "description": "Says nothing.", "scope": "terminal", "eventTypes": ["pos.drawer.opened"],
                    "settingsSchema": {"type": "object"}, "defaultSettings": {}}  # fmt: skip
        for name, more in (("silent", {}), ("broken", {"scope": "store"}), ("fraud-detection", {})):
            shop.publish("pos.plugins.manifests", name, json.dumps({**manifest, "name": name, **more}))
        environment = os.environ | {
            "TILLSTREAM_URL": shop.url,
            "TILLSTREAM_BROKERS": shop.broker,
            "TILLSTREAM_TOPIC_PREFIX": shop.prefix,
            "COUNTER": f"{os.environ['PLUGIN_PYTHON']} {HERE / 'counter' / 'counter.py'}",
        }
        command = ["node", "--test", str(HERE / "admin.mjs")]
        ended = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=180)
        self.assertEqual(ended.returncode, 0, f"{ended.stdout[-6000:]}\n{shop.text()[-2000:]}")


if __name__ == "__main__":
    unittest.main()
