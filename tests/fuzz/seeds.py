#!/usr/bin/env python3
"""Makes the seeds in corpus/ that nobody can type. Run again after a format changes; the rest is written by hand."""
import pathlib, struct, zlib

corpus = pathlib.Path(__file__).parent / "corpus"

def seed(path, data):
    path = corpus / path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)

# docs/formats/index.md: one pack; a stored chunk, a hole, a zstd chunk.
header = struct.pack("<8sHHHHH6xQII24x", b"SPTRINDX", 1, 0, 64, 40, 56, 0x18001, 1, 3)
pack = struct.pack("<32sQ", b"\xaa" * 32, 0x5000)
chunk = lambda byte, length, codec, stored, offset: struct.pack(
    "<32sIB3xIIQ", bytes([byte]) * 32, length, codec, 0, stored, offset)
chunks = chunk(1, 0x4000, 1, 0x4000, 0) + chunk(2, 0x10000, 0, 0, 0) + chunk(3, 0x4001, 2, 0x1000, 0x4000)
seed("index/three-chunks", header + pack + chunks)

# docs/formats/config-slot.md. The target fills up with zeros.
base = b'image = "debian"\n'
frame = struct.pack("<16sHHIIIII20x", b"sparetire-config", 1, 64, 16384, len(base), zlib.crc32(base), 0, 0)
seed("config_slot/base-only", frame + struct.pack("<I", zlib.crc32(frame)) + base)

# RFC 2131: an offer. The target takes a list of messages, which libFuzzer's arbitrary reads from these bytes as it likes.
options = bytes([53, 1, 2, 54, 4, 10, 0, 2, 2, 1, 4, 255, 255, 255, 0, 3, 4, 10, 0, 2, 2, 51, 4, 0, 1, 81, 128, 255])
offer = struct.pack("!BBBBIHHIIII16s192xI", 2, 1, 6, 0, 7, 0, 0, 0, 0x0A00020F, 0, 0,
                    bytes([0x52, 0x54, 0, 0x12, 0x34, 0x56]), 0x63825363) + options
seed("dhcp/offer", offer)

# netlink(7): an acknowledgement, then a message of another kind.
seed("netlink/acknowledged", struct.pack("<IHHIIi16x", 36, 2, 0, 7, 0, 0) + struct.pack("<IHHII", 16, 16, 0, 8, 0))

# Operations are bytes to libFuzzer; these make it start with a few polls.
seed("fetch/polls", bytes(range(64)))

# SPC, SBC, MMC: TEST UNIT READY, READ CAPACITY, READ(10) of block 16, READ TOC. Read as a list of operations as well.
seed("atapi/boot", bytes([1, 1]) + struct.pack("<Q", 5 << 30) + bytes(10) + b"".join(
    bytes([0, 0, 0, 0]) + bytes(cdb).ljust(12, b"\0") for cdb in (
        [0], [0x25], [0x28, 0, 0, 0, 0, 16, 0, 0, 1], [0x43, 2, 0, 0, 0, 0, 0, 3, 0x24])))
