#!/usr/bin/env bash
# Makes what a release has for Linux on this machine's kind of processor, in FOLDER: an archive of `kinora` and the Python package. Both start on
# glibc 2.28 (2018) and newer and need no C++ library: they are linked by Zig, which, like maturin, comes from PyPI.
#
#     scripts/release/linux.sh FOLDER
#
# Needs Rust and python3 with venv, and on x86-64 nasm, without which OpenH264 is built without its vector instructions.
set -euo pipefail
oldest=2.28
[ $# -eq 1 ] || { echo "usage: linux.sh FOLDER" >&2; exit 2; }
mkdir -p "$1"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")/../.."
machine=$(uname -m)
target=$machine-unknown-linux-gnu
[ "$machine" != x86_64 ] || command -v nasm >/dev/null || { echo "nasm is missing" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/python"
"$work/python/bin/pip" install --quiet cargo-zigbuild==0.24.1 maturin==1.16.0 ziglang==0.15.2
export PATH="$work/python/bin:$PATH" CARGO_PROFILE_RELEASE_STRIP=symbols

cargo zigbuild --release --locked --target "$target.$oldest"
program=${CARGO_TARGET_DIR:-target}/$target/release/kinora

# What it asks of the system.
libraries=$(readelf --dynamic --wide "$program" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
newest=$(readelf --version-info --wide "$program" | grep -oE 'GLIBC_[0-9.]+' | sort -Vu | tail -n 1)
echo "$program needs $(tr '\n' ' ' <<<"$libraries")and $newest"
! grep -E 'stdc\+\+|libc\+\+' <<<"$libraries" || { echo "the C++ library is not in the program" >&2; exit 1; }
[ "$(printf '%s\n' "GLIBC_$oldest" "$newest" | sort -V | tail -n 1)" = "GLIBC_$oldest" ] || { echo "$newest is newer than $oldest" >&2; exit 1; }

"$program" generate "a red ball bounces on a striped blue background" --steps 2 -o "$work/clip.mp4"
scripts/release/archive.sh "$folder" "kinora-$("$program" --version | sed -n '1s/kinora \([^ ]*\).*/\1/p')-$machine-linux" "$program"
maturin build --release --locked --zig --compatibility "manylinux_${oldest/./_}" --target "$target" --manifest-path bindings/python/Cargo.toml --out "$folder"
