#!/usr/bin/env bash
# Compares the public interface of the library with crates/pipeline/api.txt; with --record, writes that.
set -euo pipefail
cd "$(dirname "$0")/../.."
target="${CARGO_TARGET_DIR:-$PWD/target}"
RUSTDOC="$PWD/scripts/api/rustdoc.sh" cargo doc --workspace --no-deps --lib --quiet --target-dir "$target"
cargo run --quiet --manifest-path scripts/api/Cargo.toml --target-dir "$target/api" -- \
    "$target/doc/kinora.json" crates/pipeline/api.txt "$@"
