"""What strangers do to the service, and what it costs the others.

Run: python benchmarks/serve_attack.py --photos DIR [--seconds 8] [--schemathesis 60]

One client asks with photos, one request after the other, in peace and during each attack:

    slow heads, slow bodies   200 connections that send a byte a second
    vanishing                 20, five times a second, send half of a picture and leave
    1 GB bodies               4 at a time, announced and in chunks, sent as fast as they are taken
    bombs                     50 files of some kilobytes that unpack to 900 million pixels

Then schemathesis, if it is installed, makes requests from the service's own description for so many
seconds. Latencies are printed, not judged. The exit status is 1 where the service does not survive,
a refusal is not the one that was due, memory or queue stay taken, or an answer is a 5xx other than
503.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import multiprocessing
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import zlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from http_client import Client, percentile
from serve_load import megabytes, running, write_model

HEAD = b"POST /v1/classify HTTP/1.1\r\nHost: 127.0.0.1\r\n"
GIGABYTE = 1 << 30
BLOCK = bytes(1 << 20)
SIDE = 30_000  # pixels of a bomb
ENOUGH = 60.0  # seconds for everything of an attack to be over


class Attacker:
    """Counts what the service answers to each of its connections; 0 for none."""

    def __init__(self, port: int, photo: bytes) -> None:
        self._port = port
        self._photo = photo
        self.answers: Counter[int] = Counter()

    async def slow_heads(self, end: float) -> None:
        """Send heads that never end."""
        await asyncio.gather(*(self._slowly(HEAD, end) for _ in range(200)))

    async def slow_bodies(self, end: float) -> None:
        """Send bodies byte by byte."""
        head = HEAD + b"Content-Length: 1000\r\n\r\n"
        await asyncio.gather(*(self._slowly(bytes(900), end, head) for _ in range(200)))

    async def vanishing(self, end: float) -> None:
        """Leave in the middle of a body."""
        request = HEAD + f"Content-Length: {len(self._photo)}\r\n\r\n".encode() + self._photo

        async def vanish() -> None:
            while time.perf_counter() < end:
                _, writer = await asyncio.open_connection("127.0.0.1", self._port)
                writer.write(request[: len(request) // 2])
                await asyncio.sleep(0.2)
                writer.transport.abort()

        await asyncio.gather(*(vanish() for _ in range(20)))

    async def gigabytes(self, end: float) -> None:
        """Send far too much."""

        async def flood(head: bytes, chunk: bytes) -> None:
            while time.perf_counter() < end:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                writer.write(HEAD + head + b"\r\n\r\n")
                answer = asyncio.ensure_future(self._answer(reader))
                with contextlib.suppress(OSError):
                    for _ in range(GIGABYTE // len(BLOCK)):
                        writer.write(chunk)
                        await writer.drain()
                        if writer.is_closing() or time.perf_counter() > end + ENOUGH:
                            break
                await answer
                writer.transport.abort()

        announced = f"Content-Length: {GIGABYTE}".encode(), BLOCK
        chunked = b"Transfer-Encoding: chunked", b"100000\r\n" + BLOCK + b"\r\n"
        await asyncio.gather(*(flood(*kind) for kind in (announced, chunked) * 2))

    async def bombs(self, end: float) -> None:
        """Send little that becomes far too much."""
        bomb = png_bomb(SIDE)
        request = HEAD + f"Content-Length: {len(bomb)}\r\n\r\n".encode() + bomb

        async def throw() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            while time.perf_counter() < end:
                writer.write(request)
                await self._answer(reader)
                await asyncio.sleep(0.5)
            writer.close()

        await asyncio.gather(*(throw() for _ in range(50)))

    async def _slowly(self, data: bytes, end: float, head: bytes = b"") -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(head)
        answer = asyncio.ensure_future(self._answer(reader))
        for start in range(len(data)):
            if time.perf_counter() > end or answer.done():
                break
            with contextlib.suppress(OSError):
                writer.write(data[start : start + 1])
            await asyncio.sleep(1)
        if answer.done():
            await answer
        else:
            answer.cancel()
        writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader) -> None:
        status = 0
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head[9:12])
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
            await reader.readexactly(int(length))
        self.answers[status] += 1


def png_bomb(side: int) -> bytes:
    """Return a PNG of side × side black pixels of one bit: zeros compress a thousandfold."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return len(data).to_bytes(4, "big") + checked + zlib.crc32(checked).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes((1, 0, 0, 0, 0))
    pixels = zlib.compress(bytes((side // 8 + 2) * side), 9)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def others(client: Client, seconds: float) -> list[float]:
    """Ask one request after the other; return their latencies, in seconds."""
    client.flood(1, seconds)
    if set(client.answers) != {200}:
        raise SystemExit(f"others get {dict(client.answers)}")
    return list(client.latencies)


def attack(method: str, port: int, photo: bytes, seconds: float) -> Counter[int]:
    """Attack, in a process of its own: what it costs should be seen in the service alone."""
    attacker = Attacker(port, photo)
    end = time.perf_counter() + seconds
    asyncio.run(asyncio.wait_for(getattr(attacker, method)(end), seconds + ENOUGH))
    return attacker.answers


def metric(port: int, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def check_nothing_is_left(port: int) -> None:
    """End with 1 unless queue and memory of requests are given back within some seconds."""
    end = time.monotonic() + ENOUGH
    while metric(port, "lushan_queue_pictures") or metric(port, "lushan_held_bytes"):
        if time.monotonic() > end:
            raise SystemExit("pictures or bytes of the attack are still held")
        time.sleep(0.2)


# What a refused attacker may get: 0 is a connection that was cut.
ATTACKS: dict[str, tuple[str, set[int]]] = {
    "slow heads": ("slow_heads", {0, 408}),
    "slow bodies": ("slow_bodies", {0, 408}),
    "vanishing": ("vanishing", set()),
    "1 GB bodies": ("gigabytes", {0, 413, 503}),
    "bombs": ("bombs", {413, 503}),
}


def attacks(port: int, pid: int, photos: Sequence[Path], seconds: float) -> None:
    client = Client(port, "/v1/classify", photos)
    client.flood(4, 2)
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    pool.submit(int).result()
    for name, (method, allowed) in ATTACKS.items():
        peace = others(client, seconds)
        attacker = pool.submit(attack, method, port, photos[0].read_bytes(), seconds + 1)
        time.sleep(1)
        war = others(client, seconds)
        answers = attacker.result()
        before, now = statistics.median(peace), statistics.median(war)
        print(
            f"{name:<12} others: median {1e3 * before:.1f} → {1e3 * now:.1f} ms = "
            f"{now / before:.2f} ×, p99 {1e3 * percentile(peace, 99):.1f} → "
            f"{1e3 * percentile(war, 99):.1f} ms; attackers got {dict(answers)}; "
            f"{megabytes(pid):.0f} MB",
            flush=True,
        )
        if not set(answers) <= allowed:
            raise SystemExit(f"{name}: {dict(answers)}, allowed {allowed}")
        check_nothing_is_left(port)
    pool.shutdown()


def describe(port: int, seconds: float) -> None:
    """Let schemathesis ask whatever the description allows, and what it does not."""
    if not importlib.util.find_spec("schemathesis"):
        print("schemathesis is not installed")
        return
    command = [sys.executable, "-m", "schemathesis.cli", "run"]
    command += [f"http://127.0.0.1:{port}/openapi.json", "--checks", "not_a_server_error"]
    command += ["--checks", "status_code_conformance", "--max-examples", "200", "--no-color"]
    command += ["--request-timeout", "20", "--seed", "1", "--suppress-health-check", "all"]
    command += ["--max-time", str(max(1, round(seconds)))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout[-3000:], done.stderr[-1000:])
    if done.returncode:
        raise SystemExit("schemathesis found something")
    if metric(port, 'lushan_errors_total{kind="internal"'):
        raise SystemExit("there were internal errors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--seconds", type=float, default=8, help="of each attack, and before it")
    parser.add_argument("--schemathesis", type=float, default=60, metavar="SECONDS")
    parser.add_argument("--port", type=int, default=8331)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    photos = sorted(path for path in arguments.photos.iterdir() if path.is_file())
    with tempfile.TemporaryDirectory(prefix="lushan-serve-attack-") as name:
        write_model(Path(name))
        command = [sys.executable, "-c", "from lushan.cli import main; main()", "serve"]
        command += ["--model", f"default={name}", "--port", str(arguments.port)]
        with running(command, arguments.port, "/v2/health/ready") as service:
            attacks(arguments.port, service.pid, photos, arguments.seconds)
            if arguments.schemathesis:
                describe(arguments.port, arguments.schemathesis)
            if service.poll() is not None:
                raise SystemExit("the service has ended")
            client = Client(arguments.port, "/v1/classify", photos)
            others(client, 1)
            print(f"healthy after; {megabytes(service.pid):.0f} MB")


if __name__ == "__main__":
    main()
