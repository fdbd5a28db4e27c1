#!/usr/bin/env bash
# Builds what scripts/gpu/check.sh runs, and puts it stripped into one folder, to be carried to a machine with a GPU.
#   usage: bundle.sh [FOLDER]   (default target/gpu; the CUDA toolkit must be set up, see scripts/cuda)
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-target/gpu}
mkdir -p "$folder"
# All at once, so that they share their dependencies.
features=kinora-kernels/cuda,kinora-benches/cuda,kinora-cli/cuda,kinora-dit/cuda,kinora-tests/cuda
take() { # take CARGO-ARGUMENTS...: what cargo says it made
    cargo "$@" --workspace --release --features "$features" --message-format=json-render-diagnostics | python3 -c '
import json, sys
for message in map(json.loads, sys.stdin):
    if message.get("executable"):
        print(message["target"]["name"], message["executable"])' | while read -r name path; do
        strip -o "$folder/$name" "$path"
    done
}
take test --no-run --test agree_cuda --test wan_cuda --test oracle_cuda --bench cuda
take build --bin kinora-cuda
du -sh "$folder"
