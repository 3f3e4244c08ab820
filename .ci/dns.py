"""A DNS server on port 53 of 127.0.0.1 that knows one name, given as an argument, as an address of loopback (RFC 1035).

Prints a line when it is ready. It is its own so that no check depends on the network.
"""
import socket
import struct
import sys

TYPE_A = 1
HEADER_BYTES = 12
NO_SUCH_NAME = 3

known = b"".join(bytes([len(label)]) + label.encode() for label in sys.argv[1].split(".")) + b"\0"
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
print("ready", flush=True)
while True:
    query, client = server.recvfrom(512)
    name_end = query.index(b"\0", HEADER_BYTES) + 1
    name, question = query[HEADER_BYTES:name_end], query[HEADER_BYTES : name_end + 4]
    (kind,) = struct.unpack("!H", question[-4:-2])
    is_known = name.lower() == known
    answer = b""
    if is_known and kind == TYPE_A:
        # A pointer to the name of the question, for a minute.
        answer = struct.pack("!HHHIH4B", 0xC000 | HEADER_BYTES, TYPE_A, 1, 60, 4, 127, 0, 0, 1)
    flags = 0x8180 | (0 if is_known else NO_SUCH_NAME)
    head = query[:2] + struct.pack("!HHHHH", flags, 1, 1 if answer else 0, 0, 0)
    server.sendto(head + question + answer, client)
