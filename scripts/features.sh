#!/usr/bin/env bash
# Compiles the library without features, and with each single one that needs nothing of the machine; warnings are errors.
set -euo pipefail
cd "$(dirname "$0")/.."
compiles() { # compiles PACKAGE FEATURES
    echo "==> $1 with: ${2:-nothing}"
    said=$(cargo check --quiet --package "$1" --no-default-features --features "$2" 2>&1) || { echo "$said"; exit 1; }
    [ -z "$said" ] || { echo "$said"; exit 1; }
}
for feature in "" clap embedded gif h264 hub jpeg opus tiff webp; do
    compiles kinora "$feature"
done
compiles kinora-cli ""
