#!/usr/bin/env bash
# Builds libraries that stand in for NVIDIA's driver and cuBLAS and run kernels on the CPU, for tests of `kinora-cuda` where there
# is no GPU. Needs g++, python3, cargo, and the CUDA toolkit's include files in CUDA_HOME.
#
#     scripts/cuda/emulator/build.sh FOLDER
set -euo pipefail

out=${1:?usage: build.sh FOLDER}
: "${CUDA_HOME:?names no CUDA toolkit}"
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
mkdir -p "$out/build"
out=$(cd "$out" && pwd)

metadata=$(cd "$root" && cargo metadata --format-version 1 --features kinora-cli/cuda)
source_of() { # source_of NAME: where cargo has a dependency's sources
    python3 -c '
import json, os, sys
packages = json.load(sys.stdin)["packages"]
print(os.path.dirname(next(p["manifest_path"] for p in packages if p["name"] == sys.argv[1])) + "/src")' "$1" <<<"$metadata"
}
compile=(g++ -std=c++17 -O3 -march=native -fPIC -pthread -w -fno-strict-aliasing -fno-math-errno -ftls-model=initial-exec
    -I"$here" -isystem "$CUDA_HOME/include" -isystem "$CUDA_HOME/include/cccl")

# Kernels: each source becomes a unit of its own, in a namespace without a name because sources use the same names for different
# things. What follows the source makes its kernels known.
units=()
kernels() { # kernels NAME FOLDER SOURCE...
    local work=$out/build/$1 folder=$2 file name
    shift 2
    mkdir -p "$work"
    for file in "$folder"/*.cuh; do python3 "$here/translate.py" "$file" >"$work/$(basename "$file")"; done
    for name in "$@"; do
        python3 "$here/translate.py" "$folder/$name.cu" >"$work/$name.inc"
        printf '#include "device.h"\nnamespace {\n#include "%s.inc"\n' "$name" >"$work/$name.start"
        {
            cat "$work/$name.start"
            "${compile[@]}" -I"$work" -DEMULATED_LISTING -E -P -x c++ "$work/$name.start" |
                grep -oE '__global__ +void +\w+' | awk '{ print $3 }' | sort -u |
                sed 's/.*/emulated::Register register_&(emulated::Launchable<\&&>::kernel("&"));/'
            echo "}"
        } >"$work/$name.cpp"
        units+=("$work/$name.cpp")
    done
}
kernels candle "$(source_of candle-kernels)" affine binary cast conv fill indexing reduce sort ternary unary
kinora=$root/crates/kernels/src/cuda/source
# All but those that only Hopper has instructions for.
mapfile -t names < <(cd "$kinora" && ls -- *.cu | grep -v hopper | sed 's/\.cu$//')
kernels kinora "$kinora" "${names[@]}"
for name in block device gemm graph memory stream cublas cublaslt curand; do units+=("$here/$name.cpp"); done

object() { echo "$out/build/$(basename "$(dirname "$1")")_$(basename "$1" .cpp).o"; }
unit() { # unit SOURCE: compiles it where it preprocesses to something new
    local to sum
    to=$(object "$1")
    sum=$("${compile[@]}" -I"$(dirname "$1")" -E "$1" | cat - <(echo "${compile[@]}") | sha256sum)
    [ -e "$to" ] && [ "$(cat "$to.sum" 2>/dev/null)" = "$sum" ] && return
    rm -f "$to.sum"
    "${compile[@]}" -I"$(dirname "$1")" -c "$1" -o "$to"
    echo "$sum" >"$to.sum"
}
for source in "${units[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n; done
    unit "$source" &
done
wait
driver=()
for source in "${units[@]}"; do
    [ -e "$(object "$source").sum" ]
    case $source in
    "$here"/cu*.cpp) ;;
    *) driver+=("$(object "$source")") ;;
    esac
done

# Whatever else cudarc declares is an error that says its name where CUDA_EMULATOR_TRACE is set.
cudarc=$(source_of cudarc)
library() { # library SONAME MODULE-OF-CUDARC PREFIX ARGUMENTS-OF-THE-LINKER...
    local soname=$1 module=$2 prefix=$3 objects
    shift 3
    mapfile -t objects < <(printf '%s\n' "$@" | grep '\.o$')
    comm -23 <(grep -ohE "\bfn $prefix[A-Za-z0-9_]+" "$cudarc/$module/sys/mod.rs" | sed 's/fn //' | sort -u) \
        <([ ${#objects[@]} = 0 ] || nm --defined-only --format=just-symbols "${objects[@]}" | sort -u) |
        sed 's/.*/int &(void) { return emulated_missing("&"); }/' >"$out/build/$module.c"
    cc -fPIC -fno-builtin -w -c "$out/build/$module.c" -o "$out/build/$module.missing.o"
    g++ -shared -pthread -Wl,-soname,"$soname" -Wl,-z,now "$@" "$out/build/$module.missing.o" -o "$out/$soname"
}
library libcuda.so.1 driver cu "${driver[@]}"
library libcublas.so.13 cublas cublas "$(object "$here/cublas.cpp")" "$out/libcuda.so.1"
library libcublasLt.so.13 cublaslt cublasLt "$(object "$here/cublaslt.cpp")" "$out/libcuda.so.1"
library libcurand.so.10 curand curand "$(object "$here/curand.cpp")" "$out/libcuda.so.1"
library libnvrtc.so.13 nvrtc nvrtc "$out/libcuda.so.1"
g++ -std=c++17 -isystem "$CUDA_HOME/include" "$here/test.cpp" "$out/libcuda.so.1" -o "$out/build/test"
LD_LIBRARY_PATH=$out "$out/build/test"
echo "libraries are in $out"
