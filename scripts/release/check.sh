#!/usr/bin/env bash
# Compares a tag, such as v0.1.0, with the version of the workspace and with the newest heading of CHANGELOG.md.
#
#     scripts/release/check.sh TAG
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: check.sh TAG" >&2; exit 2; }
cd "$(dirname "$0")/../.."
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
[ "$1" = "v$version" ] || { echo "the tag is $1, the version in Cargo.toml $version" >&2; exit 1; }
heading=$(sed -n 's/^## \([^ ]*\).*/\1/p' CHANGELOG.md | head -n 1)
[ "$heading" = "$version" ] || { echo "CHANGELOG.md begins with $heading, not with $version" >&2; exit 1; }
