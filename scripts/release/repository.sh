#!/usr/bin/env bash
# Writes the repository's address where it stands, once there is one: in the workspace's table, from which every package takes it.
#
#     scripts/release/repository.sh https://HOST/OWNER/NAME
set -euo pipefail
[[ $# -eq 1 && $1 == https://* ]] || { echo "usage: repository.sh https://HOST/OWNER/NAME" >&2; exit 2; }
cd "$(dirname "$0")/../.."
if grep -q '^repository = ' Cargo.toml; then
    sed -i "s|^repository = .*|repository = \"$1\"|" Cargo.toml
    exit
fi
sed -i "s|^# Here the repository's address will stand.*|repository = \"$1\"|" Cargo.toml
# Cargo takes no inherited key that is not there, so packages have theirs from now on.
grep -rl --include=Cargo.toml --exclude-dir=target '^license.workspace = true' bindings crates models |
    xargs sed -i 's/^license.workspace = true/&\nrepository.workspace = true/'
cargo metadata --no-deps --format-version 1 >/dev/null
