#!/usr/bin/env python3
"""A child of `cluster_ipc::Spawn` in another language: Python 3.8, with its standard library alone.

It joins by what the page `wire_format` of cluster-ipc says and nothing else. It answers requests (the question,
twice; the question "fail" fails), sends every message back as it came, with its descriptors, asks one question itself,
and ends when the parent says that this was all.
"""

import array
import collections
import fcntl
import os
import socket
import struct
import sys

# Kinds of frames ("Frames").
WELCOME, ONLINE, REJECT = 1, 2, 3
MESSAGE, REQUEST, REPLY, CHUNK, GAP, FINISH = 16, 17, 18, 19, 20, 21
FAILURE, CREDIT, BLOCKED, CANCEL = 32, 33, 34, 35

MUST_UNDERSTAND, MORE, IN_MEMORY = 1, 2, 4
CONTROL, DATA, REPLIES = 0, 1, 2  # two lanes, and what credit is for: replies have their own

HEADER = struct.Struct("<IBBBBQ")  # length, kind, flags, descriptors, lane, id
NUMBER = struct.Struct("<Q")
AMOUNT = struct.Struct("<QQQ")  # bytes, messages, descriptors
FOR_EVER = 2**64 - 1
MAX_FRAME = 1 << 20
CHUNK_LEN = 16 << 10
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

# What this side takes ("Handshake"). The windows are small, so that the tests see credit come back again and again.
MAX_MESSAGE = 1 << 20
WINDOWS = {CONTROL: (64 << 10, 16, 0), DATA: (64 << 10, 100, 16), REPLIES: (64 << 10, 100, 16)}
SETTINGS = {1: MAX_MESSAGE, **dict(zip(range(2, 8), WINDOWS[DATA] + WINDOWS[CONTROL])), 8: 8}


class Gone(Exception):
    """The stream has ended."""


class Wrong(Exception):
    """The parent has sent something that has no place there."""


def plus(one, other):
    return tuple(a + b for a, b in zip(one, other))


def within(amount, limit):
    return all(a <= b for a, b in zip(amount, limit))


class Quota:
    """Credit for one lane, or for replies, in both directions ("Credit"). All are totals since the beginning."""

    def __init__(self, ours, theirs):
        nothing = (0, 0, 0)
        # What the parent may send: window, what was handled here, what of it the parent knows, what it waits for.
        self.ours, self.handled, self.announced, self.wanted = ours, nothing, nothing, None
        # What we may send.
        self.theirs, self.granted, self.used = theirs, theirs, nothing

    def may_go(self, cost):
        if within(plus(self.used, cost), self.granted):
            return True
        # A message with more bytes than the window goes alone: when all before it has been handled.
        return self.is_oversize(cost) and plus(self.used, self.theirs) == self.granted

    def is_oversize(self, cost):
        return cost[0] > self.theirs[0] and within(cost[1:], self.theirs[1:])

    def needed(self, cost):
        """The totals that a message of this cost waits for."""
        return plus(self.used, self.theirs if self.is_oversize(cost) else cost)

    def is_due(self):
        """Whether the parent should be told what was handled."""
        news = zip(self.handled, self.announced, self.ours)
        reaches = self.wanted is not None and within(self.wanted, plus(self.handled, self.ours))
        return reaches or any(2 * (handled - announced) > window for handled, announced, window in news)


class Message:
    """Something for the program: a Message, Request, Reply, Failure or Finish, whole."""

    def __init__(self, kind, lane, id, payload, descriptors):
        self.kind, self.id, self.payload, self.descriptors = kind, id, payload, descriptors
        self.quota = REPLIES if kind == REPLY else lane
        self.total = self.cost = None

    def close(self):
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = []


class Connection:
    def __init__(self, channel):
        self.channel = channel
        self.bytes, self.descriptors = bytearray(), []
        self.quotas, self.max_message = {}, 0
        self.partial = None  # a message of which chunks are missing
        self.arrived = collections.deque()

    # Frames.

    def read(self):
        """Waits for the next frame: kind, flags, lane, id, payload, descriptors."""
        while True:
            if len(self.bytes) >= HEADER.size:
                length, kind, flags, count, lane, id = HEADER.unpack_from(self.bytes)
                if length > MAX_FRAME:
                    raise Wrong(f"a frame of {length} bytes")
                end = HEADER.size + length
                if len(self.bytes) >= end:
                    payload = bytes(self.bytes[HEADER.size : end])
                    del self.bytes[:end]
                    # Which read they came with means nothing: how many are the frame's is in its header.
                    if count > len(self.descriptors):
                        raise Wrong("descriptors are missing")
                    descriptors, self.descriptors = self.descriptors[:count], self.descriptors[count:]
                    return kind, flags, lane, id, payload, descriptors
            self.receive()

    def receive(self):
        room = socket.CMSG_LEN(253 * array.array("i").itemsize)
        try:
            data, ancillary, flags, _ = self.channel.recvmsg(64 << 10, room, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            raise Gone from None
        for level, type, body in ancillary:
            if (level, type) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                received = array.array("i")
                received.frombytes(body[: len(body) - len(body) % received.itemsize])
                self.descriptors.extend(received)
        if flags & socket.MSG_CTRUNC:
            raise Wrong("descriptors were lost: raise `ulimit -n`")
        if not data:
            raise Gone
        self.bytes += data

    def write(self, kind, payload=b"", id=0, lane=CONTROL, flags=0, descriptors=()):
        """Writes a frame, waiting for room. A parent that waits for room itself reads meanwhile, so this ends."""
        header = HEADER.pack(len(payload), kind, MUST_UNDERSTAND | flags, len(descriptors), lane, id)
        data = memoryview(header + payload)
        ancillary = []
        if descriptors:
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        try:
            # They go with the first byte, and never again.
            sent = self.channel.sendmsg([data], ancillary)
            while sent < len(data):
                sent += self.channel.send(data[sent:])
        except (BrokenPipeError, ConnectionResetError):
            raise Gone from None

    # What arrives.

    def next(self):
        """Waits for the next message. Call `handled` for it, and close its descriptors."""
        while not self.arrived:
            self.take(*self.read())
        return self.arrived.popleft()

    def take(self, kind, flags, lane, id, payload, descriptors):
        """Each frame to its place. Those of the control lane may come between the chunks of a message."""
        if kind == CREDIT:
            quota = self.quotas[id]
            quota.granted = tuple(map(max, quota.granted, AMOUNT.unpack_from(payload)))
        elif kind == BLOCKED:
            self.quotas[id].wanted = AMOUNT.unpack_from(payload)
            self.grant(id)
        elif kind == GAP:
            # Left out here, but it costs one message.
            self.release(lane, (0, 1, 0))
        elif kind == CANCEL:
            pass  # It has to be answered all the same.
        elif kind in (MESSAGE, REQUEST, REPLY):
            self.begin(Message(kind, lane, id, payload, descriptors), flags)
        elif kind == CHUNK:
            if self.partial is None or self.partial.id != id:
                raise Wrong("a chunk of no message")
            self.partial.payload += payload
            if not flags & MORE or len(self.partial.payload) > self.partial.total:
                message, self.partial = self.partial, None
                self.deliver(message)
        elif kind in (FAILURE, FINISH):
            self.arrived.append(Message(kind, lane, id, payload, descriptors))
        elif flags & MUST_UNDERSTAND:
            raise Wrong(f"a frame of kind {kind}")
        else:
            # Of a later version, and not important.
            Message(kind, lane, id, payload, descriptors).close()

    def begin(self, message, flags):
        """The head of a message: a request's patience, which this program doesn't use, and the length of a long one."""
        at = NUMBER.size if message.kind == REQUEST else 0
        message.total = len(message.payload) - at
        if flags & (MORE | IN_MEMORY):
            (message.total,) = NUMBER.unpack_from(message.payload, at)
            at += NUMBER.size
        if message.total > MAX_MESSAGE:
            raise Wrong(f"a message of {message.total} bytes")
        message.cost = (message.total, 1, len(message.descriptors))  # the memory's included
        message.payload = message.payload[at:]
        if flags & IN_MEMORY:
            message.payload = self.read_memory(message.descriptors.pop(), message.total)
        if flags & MORE:
            self.partial = message
        else:
            self.deliver(message)

    def read_memory(self, memory, total):
        """("Memory") It is read, not mapped, but what could still change is refused all the same."""
        try:
            if fcntl.fcntl(memory, fcntl.F_GET_SEALS) & SEALS != SEALS or os.fstat(memory).st_size != total:
                raise Wrong("memory that is not sealed, or of another length")
            return os.pread(memory, total, 0)
        finally:
            os.close(memory)

    def deliver(self, message):
        if len(message.payload) != message.total:
            raise Wrong("chunks that don't fit their message")
        self.arrived.append(message)

    def handled(self, message):
        """A message has been handled: the parent may send as much again."""
        self.release(message.quota, message.cost)

    def release(self, number, cost):
        self.quotas[number].handled = plus(self.quotas[number].handled, cost)
        self.grant(number)

    def grant(self, number):
        quota = self.quotas[number]
        if quota.is_due():
            quota.announced, quota.wanted = quota.handled, None
            self.write(CREDIT, AMOUNT.pack(*plus(quota.handled, quota.ours)), id=number)

    # What is sent.

    def send(self, kind, payload, id=0, descriptors=()):
        """Sends a message, request or reply in the data lane: waits for credit, and cuts it up if it is long."""
        if len(payload) > self.max_message:
            raise ValueError(f"the parent takes {self.max_message} bytes")
        number = REPLIES if kind == REPLY else DATA
        quota, cost = self.quotas[number], (len(payload), 1, len(descriptors))
        while not quota.may_go(cost):
            self.write(BLOCKED, AMOUNT.pack(*quota.needed(cost)), id=number)
            granted = quota.granted
            while quota.granted == granted:
                # Other things come meanwhile and wait in `arrived`: no more of them than our windows hold.
                self.take(*self.read())
        quota.used = plus(quota.used, cost)
        head = NUMBER.pack(FOR_EVER) if kind == REQUEST else b""
        if len(payload) <= CHUNK_LEN:
            return self.write(kind, head + payload, id, DATA, descriptors=descriptors)
        first, *rest = (payload[at : at + CHUNK_LEN] for at in range(0, len(payload), CHUNK_LEN))
        self.write(kind, head + NUMBER.pack(len(payload)) + first, id, DATA, MORE, descriptors)
        for left, part in zip(range(len(rest) - 1, -1, -1), rest):
            self.write(CHUNK, part, id, DATA, MORE if left else 0)


def find_channel():
    """The socket, where no child of this process finds it."""
    number = os.environ.pop("CLUSTER_IPC_FD", None)
    if number is None:
        sys.exit("CLUSTER_IPC_FD is not set: this program has to be started by a parent that speaks cluster-ipc")
    inherited = int(number)
    channel = socket.socket(fileno=os.dup(inherited))  # a copy is closed on exec
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, inherited)  # so that the number isn't taken for the channel, and stdin is something
    os.close(null)
    return channel


def join(connection, greeting):
    """Reads the Welcome and answers it. Returns what the parent's program says in it."""
    kind, _, _, _, payload, descriptors = connection.read()
    if kind != WELCOME or payload[:4] != b"CLst":
        sys.exit("the channel doesn't begin with a Welcome of cluster-ipc")
    lowest, highest, parent = struct.unpack_from("<HHI", payload, 4)
    if not lowest <= 1 <= highest:
        connection.write(REJECT, b"this child speaks version 1")
        sys.exit("the parent speaks another version")
    if parent != os.getppid():
        sys.exit("the parent has died")
    count, at = payload[12], 13
    theirs = dict(struct.unpack_from("<HQ", payload, at + 10 * n) for n in range(count))
    # A setting that isn't there is 0, and one that we don't know is passed over.
    connection.max_message = theirs.get(1, 0)
    for number, first in ((CONTROL, 5), (DATA, 2), (REPLIES, 2)):
        window = tuple(theirs.get(first + n, 0) for n in range(3))
        connection.quotas[number] = Quota(WINDOWS[number], window)
    settings = bytes([len(SETTINGS)]) + b"".join(struct.pack("<HQ", *pair) for pair in SETTINGS.items())
    connection.write(ONLINE, struct.pack("<H", 1) + settings + greeting)
    for descriptor in descriptors:
        os.close(descriptor)  # this program has no use for them
    return payload[at + 10 * count :]


def main():
    connection = Connection(find_channel())
    greeting = join(connection, b"python")
    # A question of its own: the answer comes among everything else.
    connection.send(REQUEST, b"what is my name?", id=7)
    name = b"nobody"
    while True:
        message = connection.next()
        if message.kind == FINISH:
            break
        if message.kind == FAILURE:
            continue  # a code and a reason; costs nothing
        connection.handled(message)
        if message.kind == MESSAGE:
            connection.send(MESSAGE, message.payload, descriptors=message.descriptors)
        elif message.kind == REPLY:
            name = message.payload
        elif message.payload == b"fail":
            connection.write(FAILURE, b"\0as you wish", message.id)
        else:
            connection.send(REPLY, message.payload * 2, message.id)
        message.close()
    connection.send(MESSAGE, greeting + b" " + name)
    connection.write(FINISH, lane=DATA)


if __name__ == "__main__":
    try:
        main()
    except Gone:
        sys.exit("the parent is gone")
    except Wrong as error:
        sys.exit(f"the parent has sent {error}")
