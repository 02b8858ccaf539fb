"""For the test of isolation: talks all the time, over one old connection each, to itself, IMDS, AWS and a neighbour.

Writes whom it heard lately to `<folder>/heard`.
"""

import os
import socket
import socketserver
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

folder, cloud = Path(sys.argv[1]), urlsplit(sys.argv[2])
own = str(urlsplit(os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"]).hostname)
PORT = 7007
heard: dict[str, float] = {}


class Echo(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def talk(name: str, address: str, port: int) -> None:
    """One connection as long as it works; then another."""
    while True:
        try:
            with socket.create_connection((address, port), timeout=0.5) as connection:
                while True:
                    connection.sendall(b"GET /latest/ HTTP/1.1\r\nHost: x\r\n\r\n")
                    if connection.recv(4096):
                        heard[name] = time.monotonic()
                    time.sleep(0.1)
        except OSError:
            time.sleep(0.1)


def neighbour_of(address: str) -> str:
    """The lab puts its first two machines into the first two zones, on the same last number, more or less."""
    first, x, zone, _ = address.split(".")
    for candidate in range(11, 60):
        there = f"{first}.{x}.{3 - int(zone)}.{candidate}"
        with socket.socket() as probe:
            probe.settimeout(0.3)
            if probe.connect_ex((there, PORT)) == 0:
                return there
    return ""


def talk_to_neighbour() -> None:
    there = ""
    while not there:
        there = neighbour_of(own)
        time.sleep(0.1)
    talk("neighbour", there, PORT)


threading.Thread(target=Server((own, PORT), Echo).serve_forever, daemon=True).start()
threading.Thread(target=talk, args=("self", own, PORT), daemon=True).start()
threading.Thread(target=talk, args=("imds", own, 1338), daemon=True).start()
threading.Thread(target=talk, args=("cloud", str(cloud.hostname), cloud.port), daemon=True).start()
threading.Thread(target=talk_to_neighbour, daemon=True).start()
while True:
    now = time.monotonic()
    lately = [name for name, at in heard.items() if now - at < 1.5]
    (folder / "heard.new").write_text(" ".join(lately))
    (folder / "heard.new").replace(folder / "heard")
    time.sleep(0.1)
