"""Figures of `kinora serve` on this machine: latencies, memory, and what a clip costs over the command.

    cargo build --release
    python scripts/serve/bench.py target/release/kinora

Prints a table; nothing is asserted, machines differ. Needs Linux, for the memory of processes.
"""

import http.client
import json
import os
import re
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SMALL = {"prompt": "a red ball rolls", "width": 32, "height": 48, "frames": 5, "sampling": {"steps": 3}}
LONG = {"prompt": "long", "width": 112, "height": 64, "frames": 33, "sampling": {"steps": 400}}
REQUESTS = 100
LISTENERS = 1000


class Server:
    def __init__(self, program, data):
        command = [program, "serve", "--port", "0", "--device", "cpu", "--data", data]
        begin = time.perf_counter()
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.port = int(re.search(r":(\d+)$", self.process.stderr.readline().strip())[1])
        self.start = time.perf_counter() - begin

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        assert answer.status < 300, (answer.status, text)
        return json.loads(text) if text else None

    def make(self, request):
        return self.ask("POST", "/api/clips", request)["clips"][0]["id"]

    def finished(self, clip):
        while True:
            state = self.ask("GET", f"/api/clips/{clip}")
            if state["status"] in ("succeeded", "failed", "cancelled"):
                return state
            time.sleep(0.005)

    def memory(self):
        """Resident bytes of the server alone."""
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[1]) * 1024

    def end(self):
        self.process.terminate()
        self.process.wait()


def milliseconds(work, count=REQUESTS):
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - begin))
    times.sort()
    return f"median {statistics.median(times):.1f} ms, p99 {times[int(0.99 * len(times))]:.1f} ms"


def lag(server):
    """Milliseconds from the answer to a change until the event of it."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", "/api/events")
    stream, seen = connection.getresponse(), {}

    def listen():
        try:
            for line in stream:
                if line.startswith(b"data: ") and b'"starred":' in line:
                    clip = json.loads(line[6:])
                    seen[clip.get("starred")] = time.perf_counter()
        except (OSError, ValueError):
            pass

    threading.Thread(target=listen, daemon=True).start()
    clip, lags = server.ask("GET", "/api/clips?limit=1")["clips"][0]["id"], []
    for turn in range(20):
        starred = turn % 2 == 0
        seen.clear()
        server.ask("PATCH", f"/api/clips/{clip}", {"starred": starred})
        done = time.perf_counter()
        while starred not in seen and time.perf_counter() - done < 5:
            time.sleep(0.001)
        lags.append(1000 * (seen.get(starred, done + 5) - done))
    return f"median {statistics.median(lags):.1f} ms, most {max(lags):.1f} ms"


def listeners(server):
    """Opens streams of events that only listen; the bars are 60 MB and 250 ms with them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * LISTENERS)), hard))
    opened = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(LISTENERS)]
    for stream in opened:
        stream.sendall(f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
    for stream in opened:
        assert stream.recv(64), "a stream without a beginning"
    # They read what comes, as pages do.
    selector = selectors.DefaultSelector()
    for stream in opened:
        stream.setblocking(False)
        selector.register(stream, selectors.EVENT_READ)

    def read():
        while opened:
            for key, _ in selector.select(1):
                try:
                    key.fileobj.recv(1 << 16)
                except OSError:
                    return

    threading.Thread(target=read, daemon=True).start()
    return opened


def command_seconds(program, folder):
    words = [program, "generate", SMALL["prompt"], "--width", "32", "--height", "48", "--frames", "5", "--steps", "3", "--device", "cpu"]
    times = []
    for number in range(5):
        begin = time.perf_counter()
        subprocess.run([*words, "-o", f"{folder}/{number}.mp4"], check=True, capture_output=True)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def main(program):
    program = os.path.abspath(program)
    with tempfile.TemporaryDirectory() as folder:
        server = Server(program, f"{folder}/data")
        say = lambda name, value: print(f"{name:44} {value}", flush=True)  # noqa: E731
        say("start", f"{1000 * server.start:.0f} ms")
        say("memory of the server, idle", f"{server.memory() / 1e6:.0f} MB")
        first = [server.finished(server.make(SMALL)) for _ in range(2)]
        took = [state["finished_at"] - state["started_at"] for state in first]
        say("first and second clip, from claim to file", f"{took[0]} and {took[1]} ms")
        clips = []
        for _ in range(10):
            begin = time.perf_counter()
            server.finished(server.make(SMALL))
            clips.append(time.perf_counter() - begin)
        own, alone = statistics.median(clips), command_seconds(program, folder)
        say("a clip by the server and by the command", f"{1000 * own:.0f} and {1000 * alone:.0f} ms")
        say("status, idle", milliseconds(lambda: server.ask("GET", f"/api/clips/{first[0]['id']}")))
        say("creation, idle", milliseconds(lambda: server.make({**SMALL, "prompt": "wait"}), 30))
        say("events behind changes", lag(server))
        server.ask("POST", "/api/queue/cancel")
        server.make(LONG)
        time.sleep(1)
        say("status, both cores busy", milliseconds(lambda: server.ask("GET", f"/api/clips/{first[0]['id']}")))
        say("creation, both cores busy", milliseconds(lambda: server.make({**SMALL, "prompt": "wait"}), 30))
        say("memory of the server after that", f"{server.memory() / 1e6:.0f} MB")
        server.ask("POST", "/api/queue/cancel")
        server.end()

        server = Server(program, f"{folder}/streams")
        server.finished(server.make(SMALL))
        before = server.memory()
        opened = listeners(server)
        time.sleep(2)
        say(f"memory that {LISTENERS} streams of events take", f"{(server.memory() - before) / 1e6:.0f} MB")
        say("events behind changes, with them", lag(server))
        say("memory that they take then", f"{(server.memory() - before) / 1e6:.0f} MB")
        for stream in opened:
            stream.close()
        server.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
