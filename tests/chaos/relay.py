"""A relay that is late: what comes in goes on to where it was meant for, after a delay, in both directions.

    python -m tests.chaos.relay ADDRESS PORT MILLISECONDS

Prints a line when it listens. The kernel tells it for whom a redirected connection was meant.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys

SO_ORIGINAL_DST = 80
CHUNK = 64 * 1024


async def main(address: str, port: int, delay_s: float) -> None:
    """Serve until killed."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await _pass_on(reader, writer, delay_s)
        writer.close()

    server = await asyncio.start_server(serve, address, port)
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    await server.serve_forever()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    host, port = meant_for(writer.get_extra_info("socket"))
    far_reader, far_writer = await asyncio.open_connection(host, port)
    try:
        ways = [
            asyncio.ensure_future(carry(reader, far_writer, delay_s)),
            asyncio.ensure_future(carry(far_reader, writer, delay_s)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
    finally:
        far_writer.close()


def meant_for(connection: socket.socket) -> tuple[str, int]:
    """The address and the port that the client of a redirected connection asked for."""
    raw = connection.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
    port, packed = struct.unpack_from("!2xH4s", raw)
    return socket.inet_ntoa(packed), port


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    """One direction until its end: every chunk is as late as any other, and none overtakes another."""
    loop = asyncio.get_running_loop()
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def take_in() -> None:
        while True:
            chunk = await reader.read(CHUNK)
            await under_way.put((loop.time() + delay_s, chunk))
            if not chunk:
                return

    taking = asyncio.ensure_future(take_in())
    try:
        while True:
            due, chunk = await under_way.get()
            await asyncio.sleep(due - loop.time())
            if not chunk:
                return
            writer.write(chunk)
            await writer.drain()
    finally:
        taking.cancel()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]) / 1000))
