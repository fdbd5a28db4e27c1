#!/usr/bin/env bash
# Puts the parts of CUDA 13.0 that compile Kinora into a folder, from NVIDIA's wheels on PyPI: 105 MB to fetch, 270 MB on disk,
# no driver and no GPU. Needs python3 with pip.
#
#     scripts/cuda/toolkit.sh FOLDER && . FOLDER/env.sh
set -euo pipefail

# The versions of CUDA 13.0.2. Not newer ones: candle's kernels are PTX, and drivers of the 580 series read that of 13.0 at most.
packages=(
    nvidia-cuda-nvcc==13.0.88       # nvcc, ptxas
    nvidia-nvvm==13.0.88            # cicc, libdevice
    nvidia-cuda-crt==13.0.88        # include/crt
    nvidia-cuda-runtime==13.0.96    # cuda.h, cuda_bf16.h, libcudart
    nvidia-cuda-cccl==13.0.85       # cub, thrust, libcu++
)

folder=${1:?usage: toolkit.sh FOLDER}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
if [ -e "$folder/env.sh" ]; then
    echo "$folder has a toolkit already"
    exit 0
fi

unpacked=$(mktemp -d "$folder/unpacked.XXXX")
trap 'rm -rf "$unpacked"' EXIT
PIP_ROOT_USER_ACTION=ignore "${PYTHON:-python3}" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --target "$unpacked" "${packages[@]}"
cp -a "$unpacked"/nvidia/cu13/. "$folder"
find "$folder/bin" "$folder/nvvm/bin" -type f ! -name '*.profile' -exec chmod +x {} +
# Where build scripts look, and under the names that the linker asks for.
ln -sfn lib "$folder/lib64"
for library in "$folder"/lib/lib*.so.*; do
    ln -sfn "$(basename "$library")" "${library%%.so.*}.so"
done

# Last, because it says that the rest is whole.
cat > "$folder/env.sh.new" <<ENV
export CUDA_HOME='$folder' CUDA_PATH='$folder' CUDARC_CUDA_VERSION=13000
export PATH="\$CUDA_HOME/bin:\$PATH"
ENV
mv "$folder/env.sh.new" "$folder/env.sh"
"$folder/bin/nvcc" --version | sed -n '/release/p'
