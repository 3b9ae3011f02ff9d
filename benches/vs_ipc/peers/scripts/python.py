# Messages over multiprocessing's Pipe: python3 -c THIS VARIANT JOB.
import json
import multiprocessing
import os
import socket
import sys
import time
from multiprocessing import reduction

variant, job = sys.argv[1], json.loads(sys.argv[2])
kind, size, placement = job["kind"], job["size"], job["placement"]
stretches = [job["warm_up"], job["count"]]


def check(length, nth, due):
    if (length, nth) != (size, due):
        raise ValueError(f"message {nth} of {length} bytes where {due} of {size} was due")


def receive_bytes(connection, due):
    body = connection.recv_bytes()
    check(len(body), due, due)
    return body


def receive_object(connection, due):
    message = connection.recv()
    check(len(message["payload"]), message["id"], due)
    return message


def serve(connection, parents_end):
    # Else its end would not end ours.
    parents_end.close()
    if placement:
        os.sched_setaffinity(0, [placement["child"]])
    if variant == "bytes":
        receive, answer = receive_bytes, connection.send_bytes
    else:
        receive, answer = receive_object, connection.send
    for count in stretches:
        if kind == "descriptors":
            with socket.fromfd(connection.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as stream:
                for _ in range(count):
                    files = reduction.recvfds(stream, size)
                    check(len(files), 0, 0)
                    for file in files:
                        os.close(file)
        elif kind == "ping-pong":
            for due in range(count):
                answer(receive(connection, due))
        else:
            for due in range(count):
                receive(connection, due)
        if kind != "ping-pong":
            connection.send_bytes(b".")


def measure(connection):
    if kind == "descriptors":
        with socket.create_server(("127.0.0.1", 0)) as listener:
            with socket.fromfd(connection.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as stream:
                return timed(lambda count: send_descriptors(connection, stream, listener, count))
    if variant == "bytes":
        body = b"x" * size
        send, receive = lambda nth: connection.send_bytes(body), receive_bytes
    else:
        message = {"id": 0, "kind": "data", "payload": b"x" * size}

        def send(nth):
            message["id"] = nth
            connection.send(message)

        receive = receive_object
    stretch = ping_pong if kind == "ping-pong" else one_way
    return timed(lambda count: stretch(connection, send, receive, count))


def ping_pong(connection, send, receive, count):
    for nth in range(count):
        send(nth)
        receive(connection, nth)


def one_way(connection, send, _, count):
    for nth in range(count):
        send(nth)
    connection.recv_bytes()


def send_descriptors(connection, stream, listener, count):
    files = [listener.fileno()] * size
    for _ in range(count):
        reduction.sendfds(stream, files)
    connection.recv_bytes()


def timed(stretch):
    warm_up, count = stretches
    stretch(warm_up)
    begin = time.perf_counter()
    stretch(count)
    return time.perf_counter() - begin


def main():
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=serve, args=(there, here), daemon=True)
    child.start()
    there.close()
    seconds = measure(here)
    child.join()
    if child.exitcode != 0:
        raise SystemExit("the child failed")
    print(json.dumps({"seconds": seconds}))


main()
