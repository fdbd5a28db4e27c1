#!/usr/bin/env bash
# Builds `kinora` from nothing in FOLDER, and prints how many seconds of a processor each crate and each package of C or C++ took, the longest first.
#
#     scripts/build_time.sh FOLDER
#
# Needs GNU time. Only runs on a machine that does nothing else can be compared.
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: build_time.sh FOLDER" >&2; exit 2; }
[ ! -e "$1" ] || { echo "$1 is there already" >&2; exit 1; }
mkdir -p "$1"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."

# Stand-ins for the compilers, which write down what each call took.
mkdir "$folder/timed"
cat > "$folder/timed/rustc" <<'TIMED'
#!/usr/bin/env bash
name=other before=
for argument in "$@"; do
    [ "$before" != --crate-name ] || name=$argument
    before=$argument
done
exec /usr/bin/time --quiet --append --output "$KINORA_TIMES" --format "%U %S $name" "$@"
TIMED
for compiler in cc c++; do
    # shellcheck disable=SC2016 # what is written down is for the stand-in
    printf '#!/usr/bin/env bash\nexec /usr/bin/time --quiet --append --output "$KINORA_TIMES" --format "%%U %%S $(basename "$PWD")" %s "$@"\n' $compiler > "$folder/timed/$compiler"
done
chmod +x "$folder"/timed/*

export KINORA_TIMES=$folder/times CARGO_TARGET_DIR=$folder/target
export RUSTC_WRAPPER=$folder/timed/rustc CC=$folder/timed/cc CXX=$folder/timed/c++
cargo build --release --locked
awk '{ took[$3] += $1 + $2; all += $1 + $2 } END { for (name in took) printf "%.1f %s\n", took[name], name; printf "%.1f all\n", all }' "$folder/times" | sort --general-numeric-sort --reverse
