"""docs/plugin-tutorial.md, as a reader goes through it: its files are written, its commands run, in one shell and in an empty folder.

Needs TILLSTREAM_TEST_KAFKA and TILLSTREAM_BIN, as the other tests here.
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from shop import ROOT, Shop

BLOCK = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Tutorial(unittest.TestCase):
    def test_every_command_does_what_the_page_says(self):
        blocks = BLOCK.findall((ROOT / "docs" / "plugin-tutorial.md").read_text())
        self.assertGreater(len(blocks), 8)
        script = ["set -euxo pipefail"]
        for language, file, text in blocks:
            if file:
                script.append(f"cat >{file} <<'END OF FILE'\n{text}END OF FILE")
            elif language == "sh":
                script.append(text)
        shop = Shop(os.environ["TILLSTREAM_TEST_KAFKA"], os.environ["TILLSTREAM_BIN"], "drawer-watch")
        self.addCleanup(shop.end)
        with tempfile.TemporaryDirectory() as folder:
            programs = pathlib.Path(folder, "bin")
            programs.mkdir()
            (programs / "tillstream").symlink_to(shop.binary)
            environment = os.environ | {
                "PATH": f"{programs}:{os.environ['PATH']}",
                "TILLSTREAM_SOURCES": str(ROOT),
                "TILLSTREAM_URL": shop.url,
                "TILLSTREAM_BROKERS": shop.broker,
                "TILLSTREAM_TOPIC_PREFIX": shop.prefix,
            }
            shell = subprocess.Popen(
                ["bash", "-c", "\n".join(script)], cwd=folder, env=environment, start_new_session=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
            try:
                said, _ = shell.communicate(timeout=180)
            except subprocess.TimeoutExpired:
                os.killpg(shell.pid, signal.SIGKILL)
                said, _ = shell.communicate()
                self.fail(f"it does not end:\n{said[-4000:]}")
            finally:
                log = pathlib.Path(folder, "drawer-watch", "plugin.log")
                plugin_said = log.read_text() if log.exists() else ""
            self.assertEqual(shell.returncode, 0, f"{said[-4000:]}\n{plugin_said[-2000:]}")
        self.assertIn("plugin.drawer-watch.often", said)
        self.assertEqual([event["data"] for event in shop.published()], [{"employeeId": "E9001", "openings": 2}])


if __name__ == "__main__":
    unittest.main()
