#!/bin/sh
# Makes the keys (if there are none) and all signatures in this folder. Needs Debian's minisign.
# Signatures depend on key, file and comment only, so running it again changes nothing.
set -eu
cd "$(dirname "$0")"
version=20261121235400

for key in trusted other; do
    [ -e $key.key ] || minisign -G -W -f -p $key.pub -s $key.key -c "sparetire test key, worthless" >/dev/null
done

# sign KEY FILE SIGNATURE COMMENT [minisign options]
sign() {
    key=$1 file=$2 signature=$3 comment=$4
    shift 4
    minisign -S -s "$key.key" -m "$file" -x "$signature" -c "sparetire test signature" -t "$comment" "$@" >/dev/null </dev/null
}

for manifest in manifest manifest-winpe manifest-outside; do
    sign trusted $manifest.json $manifest.json.minisig "sparetire manifest debian-rescue $version"
done
sign trusted latest.json latest.json.minisig "sparetire latest debian-rescue $version"
sign other manifest.json manifest.other.minisig "sparetire manifest debian-rescue $version"
sign trusted manifest.json manifest.legacy.minisig "sparetire manifest debian-rescue $version" -l
sign trusted manifest.json manifest.as-latest.minisig "sparetire latest debian-rescue $version"
sign trusted manifest.json manifest.as-older.minisig "sparetire manifest debian-rescue 20251121235400"
sed "s/^trusted comment: .*/trusted comment: sparetire manifest debian-rescue 20251121235400/" \
    manifest.json.minisig >manifest.swapped.minisig
