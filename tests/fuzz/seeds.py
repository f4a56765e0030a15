#!/usr/bin/env python3
"""Makes the seeds in corpus/ that nobody can type. Run again after a format changes; the rest is written by hand."""
import pathlib, struct, subprocess, tempfile, zlib

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

# ISO images of another writer: xorriso, with Rock Ridge and Joliet and with plain names only, without the first 32 KiB.
# The kernel is a setup header and nothing else (Documentation/arch/x86/boot.rst).
kernel = bytearray(0x238)
kernel[0x1fe:0x200], kernel[0x202:0x208], kernel[0x236] = b"\x55\xaa", b"HdrS\x0c\x02", 1
isolinux = b"default live\nlabel live\n kernel /live/vmlinuz\n append initrd=/live/initrd.img boot=live\n"
grub = b"menuentry 'Live' {\n linux /live/vmlinuz boot=live quiet\n initrd /live/initrd.img\n}\n"
def iso(name, files, options):
    with tempfile.TemporaryDirectory() as folder:
        tree, output = pathlib.Path(folder) / "tree", pathlib.Path(folder) / "iso"
        for path, data in files.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(data)
        subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-no-pad", "--modification-date=2026010100000000",
                        "-V", "SEED", *options, "-o", output, tree], check=True)
        seed("iso_image/" + name, output.read_bytes()[16 * 2048:])
live = {"live/vmlinuz": bytes(kernel), "live/initrd.img": b"initrd", "isolinux/isolinux.cfg": isolinux}
iso("rock-ridge-joliet", live | {"isolinux/isolinux.bin": bytes(64)},
    ["-r", "-J", "-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat", "-no-emul-boot", "-boot-load-size", "4"])
iso("plain", live, ["--norock"])
iso("grub", {"live/vmlinuz": bytes(kernel), "live/initrd.img": b"initrd", "boot/grub/grub.cfg": grub}, ["-r"])

# An answer for each request, by its first byte: 0 a small file, 1 a report, 2 a fetch of 20 bytes in two chunks.
answer = lambda *lines, body=b"": "\r\n".join(["HTTP/1.1 " + lines[0], *lines[1:], "", ""]).encode() + body
part = lambda first, last, body: answer("206 Partial Content", f"Content-Range: bytes {first}-{last}/20",
                                        f"Content-Length: {len(body)}", 'ETag: "v1"', body=body)
seed("http_response/small", b"\0" + answer("200 OK", "Content-Length: 5", body=b"12345"))
seed("http_response/chunked", b"\0" + answer("200 OK", "Transfer-Encoding: chunked", body=b"5\r\n12345\r\n0\r\n\r\n"))
seed("http_response/redirect", b"\0" + answer("302 Found", "Location: /other", "Content-Length: 0"))
seed("http_response/too-long", b"\0" + answer("200 OK", "Content-Length: 301"))
seed("http_response/report", b"\1" + answer("204 No Content"))
seed("http_response/whole", b"\2" + part(0, 19, b"0123456789abcdefghij"))
seed("http_response/cut", b"\2" + part(0, 19, b"0123456789ab")[:-2] + b"\n=====\n" + part(10, 19, b"abcdefghij"))
seed("http_response/encoded", b"\2" + answer("206 Partial Content", "Content-Range: bytes 0-19/20", "Content-Encoding: gzip"))

# The first messages of either end of a redirection port: a session for IDE-R asked for, and granted.
seed("redirection_console/start", b"\x10\0\0\0IDER")
seed("redirection_firmware/started", b"\x11\0\0\0\1\1" + bytes(6) + b"\x11\0\0\0")
seed("redirection_operations/some", bytes(range(96)))
