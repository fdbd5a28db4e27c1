#!/usr/bin/env bash
# Packs programs into an archive, with what belongs beside them: the licences, and of `kinora` the completions and manual pages, which it writes
# itself. Prints the archive's path.
#
#     scripts/release/archive.sh FOLDER NAME PROGRAM...
set -euo pipefail
[ $# -ge 3 ] || { echo "usage: archive.sh FOLDER NAME PROGRAM..." >&2; exit 2; }
root=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$1"
folder=$(cd "$1" && pwd) name=$2
shift 2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
staged=$work/$name
mkdir "$staged"
cp "$@" "$root"/{README.md,CHANGELOG.md,LICENSE-MIT,LICENSE-APACHE,NOTICE} "$staged"
for program in "$staged"/kinora "$staged"/kinora.exe; do
    [ -x "$program" ] || continue
    mkdir "$staged/completions"
    for shell in bash zsh fish powershell; do
        "$program" completions "$shell" > "$staged/completions/kinora.$shell"
    done
    "$program" man --folder "$staged/man" >/dev/null
done
cd "$work"
if [ "${OS:-}" = Windows_NT ]; then
    7z a -bso0 "$folder/$name.zip" "$name"
    echo "$folder/$name.zip"
else
    tar --create --gzip --file "$folder/$name.tar.gz" "$name"
    echo "$folder/$name.tar.gz"
fi
