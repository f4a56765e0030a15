#!/usr/bin/env python3
"""Rebuilds an image from a store without sparetire:  rebuild.py STORE NAME VERSION OUTPUT  (needs the program zstd).
Who made the manifest is for minisign to say:  minisign -V -p KEY.pub -m STORE/images/NAME/VERSION/manifest.json"""
import hashlib, json, pathlib, struct, subprocess, sys

def check(what, digest, wanted):
    if digest.hexdigest() != wanted:
        sys.exit(f"{what} is wrong: SHA-256 is {digest.hexdigest()}, should be {wanted}")

store, name, version, output = sys.argv[1:]
folder = pathlib.Path(store, "images", name, version)
manifest, index = json.loads((folder / "manifest.json").read_bytes()), (folder / "index").read_bytes()
check("index", hashlib.sha256(index), manifest["index"]["sha256"])
magic, major, header, pack_len, chunk_len, packs, chunks = struct.unpack_from("<8sH2xHHH14xII", index)
if (magic, major) != (b"SPTRINDX", 1):
    sys.exit("index is not of major version 1")
digests = [index[at:at + 32].hex() for at in range(header, header + packs * pack_len, pack_len)]
files = [open(f"{store}/packs/{digest[:2]}/{digest}.pack", "rb") for digest in digests]
whole, first_chunk = hashlib.sha256(), header + packs * pack_len
with open(output, "wb") as image:
    for number in range(chunks):
        entry = struct.unpack_from("<32sIB3xIIQ", index, first_chunk + number * chunk_len)
        digest, length, codec, pack, stored, offset = entry
        data = bytes(length) if codec == 0 else files[pack].seek(offset) >= 0 and files[pack].read(stored)
        if codec == 2:
            data = subprocess.run(["zstd", "-dcq"], input=data, stdout=subprocess.PIPE).stdout
        check(f"chunk {number}", hashlib.sha256(data), digest.hex())
        whole.update(data), image.write(data)
check("image", whole, manifest["sha256"])
