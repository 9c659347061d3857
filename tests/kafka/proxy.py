#!/usr/bin/env python3
"""A proxy before a Kafka broker that understands enough of the protocol to disturb transactions and batches on purpose.

    proxy.py BROKER_HOST:PORT

listens on a free port of 127.0.0.1, prints `listening PORT`, and forwards. Clients stay with it: where the broker names its own
address (Metadata, FindCoordinator, DescribeCluster), the proxy's stands instead. Commands come in on standard input, one a line; news
goes out on standard output, one a line. End of input ends the proxy.

    hold commit|abort     the next EndTxn of that kind is kept, and its connection is cut: a request that the network delays, while
                          the client believes it lost and repeats it. News: `held commit ID EPOCH`
    release               sends what was kept, on a connection of its own. News: `released commit ERROR`, Kafka's code, 0 = it took
    release-before KEY    releases when the next request with this API key comes, and before that one is forwarded
    stall KEY             requests with this API key get no further from now on, nor does what follows on their connections
    spoil TOPIC           from now on, batches of that topic in answers to Fetch name a codec that nobody knows. News: `spoiled`
    mend                  undoes `spoil`
    cut                   ends all connections

News beside answers: `end commit ID EPOCH` for every EndTxn that is forwarded. API keys: 24 AddPartitionsToTxn, 25 AddOffsetsToTxn,
26 EndTxn, 28 TxnOffsetCommit. Only the standard library is used, so that the tests of every language can start it.
"""

import asyncio
import struct
import sys

FETCH, METADATA, FIND_COORDINATOR, ADD_OFFSETS, END_TXN, DESCRIBE_CLUSTER = 1, 3, 10, 25, 26, 60
NAMES_BROKERS = {METADATA, FIND_COORDINATOR, DESCRIBE_CLUSTER}
UNKNOWN_CODEC = 7
CODEC_MASK = 7


def news(text):
    """One line for whoever steers the proxy."""
    print(text, flush=True)


async def read_frame(reader):
    """A length-prefixed frame, without its length; `None` at the end."""
    try:
        (length,) = struct.unpack(">i", await reader.readexactly(4))
        return await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError, OSError):
        return None


def framed(frame):
    """The frame as it travels."""
    return struct.pack(">i", len(frame)) + frame


class EndTxn:
    """An EndTxn request of version 0 to 2, which is what clients of the old transaction protocol send."""

    def __init__(self, frame):
        at = 8
        (length,) = struct.unpack_from(">h", frame, at)
        at += 2 + max(length, 0)
        (length,) = struct.unpack_from(">h", frame, at)
        self.id = frame[at + 2 : at + 2 + length].decode()
        _, self.epoch, committed = struct.unpack_from(">qhb", frame, at + 2 + length)
        self.kind = "commit" if committed else "abort"
        self.frame = frame

    def __str__(self):
        return f"{self.kind} {self.id} {self.epoch}"


class Proxy:
    """What is being disturbed at present."""

    def __init__(self, host, port):
        self.host, self.port = host, port
        self.own_port = 0
        self.hold = None
        self.held = None
        self.release_before = None
        self.stalled = set()
        self.spoiled = None
        self.writers = set()

    async def serve(self):
        """Listens, and obeys commands until their end."""
        server = await asyncio.start_server(self.connection, "127.0.0.1", 0, limit=1 << 27)
        self.own_port = server.sockets[0].getsockname()[1]
        news(f"listening {self.own_port}")
        commands = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
        while line := (await commands.readline()).decode().split():
            await self.obey(line)

    async def obey(self, line):
        """Carries one command out."""
        match line:
            case ["hold", ("commit" | "abort") as kind]:
                self.hold = kind
            case ["release"]:
                await self.release()
            case ["release-before", key]:
                self.release_before = int(key)
            case ["stall", key]:
                self.stalled.add(int(key))
            case ["spoil", topic]:
                self.spoiled = topic.encode()
            case ["mend"]:
                self.spoiled = None
            case ["cut"]:
                for writer in list(self.writers):
                    writer.transport.abort()
            case _:
                news(f"unknown command: {' '.join(line)}")
                return
        news(f"done {' '.join(line)}")

    async def connection(self, reader, writer):
        """One client's connection, with one of its own to the broker."""
        try:
            up_reader, up_writer = await asyncio.open_connection(self.host, self.port, limit=1 << 27)
        except OSError:
            writer.transport.abort()
            return
        keys = {}
        self.writers |= {writer, up_writer}
        answers = asyncio.create_task(self.answers(up_reader, writer, keys))
        try:
            while (frame := await read_frame(reader)) is not None:
                if not await self.request(frame, keys, up_writer):
                    break
        finally:
            answers.cancel()
            self.writers -= {writer, up_writer}
            for one in (writer, up_writer):
                one.transport.abort()

    async def request(self, frame, keys, up_writer):
        """Forwards a request; false if its connection is to be cut."""
        key, version, correlation = struct.unpack_from(">hhi", frame)
        keys[correlation] = (key, version)
        if key in self.stalled:
            news(f"stalled {key}")
            await asyncio.Event().wait()
        if key == self.release_before:
            self.release_before = None
            await self.release()
        if key == END_TXN:
            end = EndTxn(frame)
            if end.kind == self.hold:
                self.hold, self.held = None, end
                news(f"held {end}")
                return False
            news(f"end {end}")
        up_writer.write(framed(frame))
        try:
            await up_writer.drain()
        except (ConnectionError, OSError):
            return False
        return True

    async def answers(self, up_reader, writer, keys):
        """Forwards what the broker says."""
        while (frame := await read_frame(up_reader)) is not None:
            (correlation,) = struct.unpack_from(">i", frame)
            key, _ = keys.pop(correlation, (-1, -1))
            if key in NAMES_BROKERS:
                address = self.host.encode() + struct.pack(">i", self.port)
                frame = frame.replace(address, self.host.encode() + struct.pack(">i", self.own_port))
            if key == FETCH and self.spoiled is not None:
                frame = self.with_unknown_codec(frame)
            writer.write(framed(frame))
            try:
                await writer.drain()
            except (ConnectionError, OSError):
                break
        writer.transport.abort()

    async def release(self):
        """Sends what was kept; the broker gets it late, from nobody who waits for the answer."""
        end, self.held = self.held, None
        if end is None:
            news("released nothing")
            return
        reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(framed(end.frame))
        answer = await read_frame(reader)
        writer.transport.abort()
        _, _, error = struct.unpack_from(">iih", answer)
        news(f"released {end.kind} {error}")

    def with_unknown_codec(self, frame):
        """The answer to a Fetch in which each compressed batch names a codec that does not exist. Batches are found by their form:
        offset, length, leader epoch, magic 2, checksum, attributes. The answer's version decides whether it names topics or only
        their ids, so every batch of a connection that fetches is taken; the topic's name only switches this on."""
        spoiled = bytearray(frame)
        at, found = 0, 0
        while at + 61 <= len(spoiled):
            base, length = struct.unpack_from(">qi", spoiled, at)
            magic, attributes = spoiled[at + 16], struct.unpack_from(">h", spoiled, at + 21)[0]
            fits = base >= 0 and 49 <= length <= len(spoiled) - at - 12 and magic == 2 and 0 <= attributes < 64
            if fits and attributes & CODEC_MASK:
                struct.pack_into(">h", spoiled, at + 21, attributes | UNKNOWN_CODEC)
                found += 1
            at += 12 + length if fits else 1
        if found:
            news("spoiled")
        return bytes(spoiled)


if __name__ == "__main__":
    broker_host, broker_port = sys.argv[1].rsplit(":", 1)
    try:
        asyncio.run(Proxy(broker_host, int(broker_port)).serve())
    except KeyboardInterrupt:
        pass
