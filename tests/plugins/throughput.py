"""How many events a second one member of a trivial plugin with a state takes: python throughput.py [--events N] COMMAND...

The input is filled first, then the plugin is switched on; the time is from that to the commit of the last offset. One of ten events
makes the plugin publish. Needs TILLSTREAM_TEST_KAFKA; COMMAND runs the plugin, e.g. `python counter/counter.py` or `node counter/counter.mjs`.
"""

import argparse
import os
import sys
import time

from bus import Bus, item, until
from confluent_kafka import Consumer, TopicPartition

TILLS = 200


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--events", type=int, default=200_000)
    arguments.add_argument("command", nargs=argparse.REMAINDER)
    given = arguments.parse_args()
    bus = Bus(os.environ["TILLSTREAM_TEST_KAFKA"], "counter")
    try:
        tills = [f"T{number:04}" for number in range(TILLS)]
        bus.feed(((tills[number % TILLS], item(tills[number % TILLS], number // TILLS)) for number in range(given.events)), revision=1)
        bus.start(given.command, sys.stderr)
        until("it says that it is off", lambda: bus.heartbeats())
        group = f"{bus.prefix}pos.plugins.counter"
        consumer = Consumer({"bootstrap.servers": bus.broker, "group.id": group})
        places = [TopicPartition(f"{bus.prefix}pos.plugins.counter.input", number) for number in range(bus.partitions)]

        def done():
            return sum(max(place.offset, 0) for place in consumer.committed(places, timeout=30))

        time.sleep(2)  # the member has joined and fetched what it may
        bus.switch(True, {"every": 10, "label": ""})
        began = time.monotonic()
        until("everything is done", lambda: done() >= given.events, 240)
        seconds = time.monotonic() - began
        consumer.close()
        published = bus.count()
        assert published == given.events // TILLS // 10 * TILLS, published
        print(f"{given.events} events in {seconds:.1f} s: {given.events / seconds:.0f} events/s, {published} published")
    finally:
        bus.end()


if __name__ == "__main__":
    main()
