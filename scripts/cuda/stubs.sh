#!/usr/bin/env bash
# Makes libraries to link `kinora-cuda` against where CUDA's own are not installed: right names, every function that cudarc
# declares, and each only says that it is a stub. Needs cc, cargo and python3; run it in the checkout, after toolkit.sh.
#
#     scripts/cuda/stubs.sh "$CUDA_HOME"
set -euo pipefail

stubs=${1:?usage: stubs.sh CUDA_HOME}/lib/stubs
mkdir -p "$stubs"
cudarc=$(cargo metadata --format-version 1 --features kinora-cli/cuda | python3 -c '
import json, os, sys
packages = json.load(sys.stdin)["packages"]
print(next(os.path.dirname(p["manifest_path"]) for p in packages if p["name"] == "cudarc"))')

# Each function returns CUDA_ERROR_STUB_LIBRARY.
stub() { # stub NAME SONAME MODULE-OF-CUDARC PREFIX
    grep -oE "\bfn $4[A-Za-z0-9_]+" "$cudarc/src/$3/sys/mod.rs" | sort -u |
        sed -e 's/fn \(.*\)/int \1(void) { return 34; }/' \
            -e 's/^int cuGetErrorString(.*/int cuGetErrorString(int error, const char **text) { *text = "libcuda is a stub"; return 0; }/' |
        cc -shared -fPIC -fno-builtin -w -Wl,-soname,"$2" -x c - -o "$stubs/$2"
    ln -sfn "$2" "$stubs/lib$1.so"
}

stub cuda libcuda.so.1 driver cu
stub cublas libcublas.so.13 cublas cublas
stub cublasLt libcublasLt.so.13 cublaslt cublasLt
stub curand libcurand.so.10 curand curand
stub nvrtc libnvrtc.so.13 nvrtc nvrtc
echo "stubs are in $stubs"
