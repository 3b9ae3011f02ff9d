#!/usr/bin/env python3
"""A child of `cluster_ipc::Spawn` in another language: Python, with its standard library alone.

It joins by what the page `wire_format` of cluster-ipc says and nothing else. It answers requests (a number doubles, the
text "fail" fails), sends every message back as it came, with its descriptors, asks one question itself, and ends when
the parent says that this was all.
"""

import array
import mmap
import os
import socket
import struct
import sys

WELCOME, ONLINE, REJECT = 1, 2, 3
MESSAGE, REQUEST, REPLY, CHUNK, GAP, FINISH = 16, 17, 18, 19, 20, 21
FAILURE, CREDIT, BLOCKED, CANCEL = 32, 33, 34, 35

MUST_UNDERSTAND, MORE, IN_MEMORY = 1, 2, 4
CONTROL, DATA = 0, 1

HEADER = struct.Struct("<IBBBBQ")  # length, kind, flags, descriptors, lane, id
AMOUNT = struct.Struct("<QQQ")  # bytes, messages, descriptors
FOR_EVER = 2**64 - 1
CHUNK_LEN = 16 << 10
MAX_FRAME = 1 << 20

# What this side takes, by the numbers of the settings. Small, so that credit has to be given back again and again.
WINDOW = [64 << 10, 100, 16]
SETTINGS = {1: 1 << 20, 2: WINDOW[0], 3: WINDOW[1], 4: WINDOW[2], 5: 1 << 16, 6: 16, 7: 0, 8: 8}


class Gone(Exception):
    """The stream has ended."""


class Frame:
    def __init__(self, kind, flags, lane, id, payload, descriptors):
        self.kind, self.flags, self.lane, self.id = kind, flags, lane, id
        self.payload, self.descriptors = payload, descriptors


class Connection:
    """Frames over the socket, and the credit in both directions."""

    def __init__(self, channel):
        self.channel = channel
        self.bytes = bytearray()
        self.descriptors = []
        # Totals since the beginning: what the peer has granted, and what was used of it.
        self.granted, self.used = {}, {DATA: [0, 0, 0], "replies": [0, 0, 0]}
        # What the peer sent and this side has handled, and what of it the peer knows.
        self.handled, self.announced = [0, 0, 0], [0, 0, 0]
        self.handled_replies = [0, 0, 0]
        self.waiting = []

    def read(self):
        """Reads the next frame, whatever it is."""
        while True:
            if len(self.bytes) >= HEADER.size:
                length, kind, flags, count, lane, id = HEADER.unpack_from(self.bytes)
                if length > MAX_FRAME:
                    raise ValueError(f"a frame of {length} bytes")
                end = HEADER.size + length
                if len(self.bytes) >= end:
                    payload = bytes(self.bytes[HEADER.size : end])
                    del self.bytes[:end]
                    # Which read they came with means nothing: their number is in the header.
                    descriptors, self.descriptors = self.descriptors[:count], self.descriptors[count:]
                    return Frame(kind, flags, lane, id, payload, descriptors)
            room = socket.CMSG_LEN(253 * array.array("i").itemsize)
            data, ancillary, _, _ = self.channel.recvmsg(64 << 10, room, socket.MSG_CMSG_CLOEXEC)
            for level, type, body in ancillary:
                if (level, type) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    received = array.array("i")
                    received.frombytes(body[: len(body) - len(body) % received.itemsize])
                    self.descriptors.extend(received)
            if not data:
                raise Gone
            self.bytes += data

    def write(self, kind, payload=b"", id=0, lane=CONTROL, flags=0, descriptors=()):
        header = HEADER.pack(len(payload), kind, MUST_UNDERSTAND | flags, len(descriptors), lane, id)
        data = memoryview(header + payload)
        ancillary = []
        if descriptors:
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        # They go with the first byte, and never again.
        sent = self.channel.sendmsg([data], ancillary)
        while sent < len(data):
            sent += self.channel.send(data[sent:])

    def next(self):
        """The next message, request or reply, put together if it came in several frames."""
        if self.waiting:
            return self.waiting.pop(0)
        while True:
            frame = self.read()
            if frame.kind == CREDIT:
                granted = list(AMOUNT.unpack(frame.payload))
                quota = {0: CONTROL, 1: DATA, 2: "replies"}[frame.id]
                self.granted[quota] = [max(pair) for pair in zip(self.granted[quota], granted)]
            elif frame.kind in (BLOCKED, CANCEL, GAP):
                if frame.kind == BLOCKED:
                    self.announce()
            else:
                return self.whole(frame)

    def whole(self, frame):
        if frame.kind in (MESSAGE, REQUEST, REPLY):
            head = 8 if frame.kind == REQUEST else 0
            if frame.flags & IN_MEMORY:
                (total,) = struct.unpack_from("<Q", frame.payload, head)
                memory = frame.descriptors.pop()
                with mmap.mmap(memory, total, access=mmap.ACCESS_READ) as mapped:
                    frame.payload = frame.payload[:head] + mapped[:]
                os.close(memory)
            elif frame.flags & MORE:
                (total,) = struct.unpack_from("<Q", frame.payload, head)
                parts = [frame.payload[:head], frame.payload[head + 8 :]]
                more = True
                while more:
                    chunk = self.read()
                    if chunk.kind == CHUNK:
                        parts.append(chunk.payload)
                        more = chunk.flags & MORE
                    elif chunk.lane == CONTROL:
                        # Those may come in between. Here it is enough to look at them later.
                        self.waiting.append(self.whole(chunk)) if chunk.kind not in (CREDIT, BLOCKED, CANCEL) else None
                frame.payload = b"".join(parts)
                assert len(frame.payload) == head + total
        return frame

    def handle(self, frame):
        """Says that a message, request or reply has been handled: the peer may send as much again."""
        head = 8 if frame.kind == REQUEST else 0
        cost = [len(frame.payload) - head, 1, len(frame.descriptors)]
        totals = self.handled_replies if frame.kind == REPLY else self.handled
        for currency in range(3):
            totals[currency] += cost[currency]
        due = any(2 * (new - old) > window for new, old, window in zip(self.handled, self.announced, WINDOW))
        if due:
            self.announce()
        if frame.kind == REPLY:
            self.write(CREDIT, AMOUNT.pack(*(t + w for t, w in zip(totals, WINDOW))), id=2)

    def announce(self):
        self.announced = list(self.handled)
        self.write(CREDIT, AMOUNT.pack(*(total + window for total, window in zip(self.handled, WINDOW))), id=1)

    def send(self, kind, payload, id=0, head=b"", descriptors=()):
        """Sends a message, request or reply: waits for credit, and cuts it up if it is long."""
        quota = "replies" if kind == REPLY else DATA
        cost = [len(payload), 1, len(descriptors)]
        wanted = [used + more for used, more in zip(self.used[quota], cost)]
        blocked = False
        while any(want > most for want, most in zip(wanted, self.granted[quota])):
            if not blocked:
                blocked = True
                self.write(BLOCKED, AMOUNT.pack(*wanted), id=2 if kind == REPLY else 1)
            frame = self.read()
            if frame.kind == CREDIT:
                self.granted[{0: CONTROL, 1: DATA, 2: "replies"}[frame.id]] = list(AMOUNT.unpack(frame.payload))
            elif frame.kind == BLOCKED:
                self.announce()
            elif frame.kind != CANCEL:
                # What comes meanwhile is for later.
                self.waiting.append(self.whole(frame))
        self.used[quota] = wanted
        if len(payload) <= CHUNK_LEN:
            return self.write(kind, head + payload, id, DATA, descriptors=descriptors)
        parts = [payload[at : at + CHUNK_LEN] for at in range(0, len(payload), CHUNK_LEN)]
        total = struct.pack("<Q", len(payload))
        self.write(kind, head + total + parts[0], id, DATA, MORE, descriptors)
        for at, part in enumerate(parts[1:], 2):
            self.write(CHUNK, part, id, DATA, MORE if at < len(parts) else 0)


def settings(pairs):
    return bytes([len(pairs)]) + b"".join(struct.pack("<HQ", number, value) for number, value in pairs.items())


def join():
    """Finds the channel, reads the Welcome and answers it. Returns the connection and the parent's greeting."""
    number = os.environ.get("CLUSTER_IPC_FD")
    if number is None:
        sys.exit("CLUSTER_IPC_FD is not set: this program has to be started by a parent that speaks cluster-ipc")
    connection = Connection(socket.socket(fileno=int(number)))
    os.set_inheritable(int(number), False)
    welcome = connection.read()
    if welcome.kind != WELCOME or welcome.payload[:4] != b"CLst":
        sys.exit(f"descriptor {number} is no channel of cluster-ipc")
    lowest, highest, parent = struct.unpack_from("<HHI", welcome.payload, 4)
    if not lowest <= 1 <= highest:
        connection.write(REJECT, b"this child speaks version 1")
        sys.exit(1)
    if parent != os.getppid():
        sys.exit("the parent has died")
    count, theirs, at = welcome.payload[12], {}, 13
    for _ in range(count):
        key, value = struct.unpack_from("<HQ", welcome.payload, at)
        theirs[key] = value
        at += 10
    # What may be sent in the beginning: the parent's windows. Replies have one like that of the data lane.
    connection.granted = {
        CONTROL: [theirs.get(n, 0) for n in (5, 6, 7)],
        DATA: [theirs.get(n, 0) for n in (2, 3, 4)],
        "replies": [theirs.get(n, 0) for n in (2, 3, 4)],
    }
    connection.write(ONLINE, struct.pack("<H", 1) + settings(SETTINGS) + b"python")
    return connection, welcome.payload[at:]


def main():
    connection, greeting = join()
    # A question of its own: the answer comes among everything else.
    connection.send(REQUEST, b"what is my name?", id=7, head=struct.pack("<Q", FOR_EVER))
    name = None
    while True:
        frame = connection.next()
        if frame.kind == MESSAGE:
            connection.handle(frame)
            connection.send(MESSAGE, frame.payload, descriptors=frame.descriptors)
            for descriptor in frame.descriptors:
                os.close(descriptor)
        elif frame.kind == REQUEST:
            connection.handle(frame)
            question = frame.payload[8:]
            if question == b"fail":
                connection.write(FAILURE, b"\0" + b"as you wish", frame.id)
            else:
                connection.send(REPLY, question * 2, frame.id)
        elif frame.kind == REPLY:
            connection.handle(frame)
            name = frame.payload
        elif frame.kind == FINISH:
            break
    connection.send(MESSAGE, greeting + b" " + name)
    connection.write(FINISH, lane=DATA)


if __name__ == "__main__":
    try:
        main()
    except Gone:
        sys.exit("the parent is gone")
