#!/usr/bin/env bash
# Lists everything that the programs and the Python package are made of, in CycloneDX's JSON: one file each in FOLDER. Needs cargo-cyclonedx.
#
#     scripts/release/materials.sh FOLDER
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: materials.sh FOLDER" >&2; exit 2; }
mkdir -p "$1"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")/../.."

# list MANIFEST NAME FEATURES...: it is written beside the manifest of every package of the workspace
list() {
    cargo cyclonedx --format json --spec-version 1.5 --target all --manifest-path "$1/Cargo.toml" --override-filename materials "${@:3}"
    mv "$1/materials.json" "$folder/$2.cdx.json"
    find bindings benches crates models tests -name materials.json -delete
}
list crates/cli kinora
list crates/cli kinora-cuda --features cuda
list bindings/python kinora-python
