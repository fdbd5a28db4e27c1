#!/usr/bin/env bash
# Everything that wants to be seen on a GPU, in stages of a few minutes; what is there already is not done again.
#   usage: check.sh STAGE...      agree | oracle | kernels | bench-1.3b | bench-5b | table
# Needs the folder that bundle.sh made (BUNDLE, default target/gpu), the CUDA libraries, and for the benches Python with
# torch and diffusers. Results go to OUT (default target/gpu-results).
set -uo pipefail
cd "$(dirname "$0")/../.."
bundle=${BUNDLE:-target/gpu} out=${OUT:-target/gpu-results}
mkdir -p "$out"
. scripts/cuda/run_env.sh
export KINORA_REQUIRE_CUDA=1 KINORA_SOURCE="$PWD" PYTHONUNBUFFERED=1
failed=0

once() { # once FILE COMMAND...: its output in $out/FILE, which appears when it has succeeded
    local file=$1
    shift
    [ ! -s "$out/$file" ] || return 0
    printf '\n==> %s\n' "$file"
    if "$@" >"$out/$file.part" 2>"$out/$file.log"; then
        mv "$out/$file.part" "$out/$file"
    else
        failed=1
        echo "failed: $*"
        tail -n 20 "$out/$file.part" "$out/$file.log"
    fi
}

torch() { python3 scripts/gpu/torch_side.py --out "$out/torch.json" "$@"; }
bench() { "$bundle/kinora-cuda" bench --device cuda --format json "$@"; }

for stage in "$@"; do
    case $stage in
    agree)
        once agree.txt "$bundle/agree_cuda" --nocapture --test-threads=1
        once agree-portable.txt env KINORA_CUDA=portable "$bundle/agree_cuda" --nocapture --test-threads=1 attention convolution
        once agree-transformer.txt "$bundle/wan_cuda" --nocapture --test-threads=1
        ;;
    oracle) once oracle.txt "$bundle/oracle_cuda" --nocapture --test-threads=1 ;;
    kernels) once kernels.md "$bundle/cuda" 10 && cat "$out/kernels.md" ;;
    bench-1.3b)
        for kind in bf16 fp8 int8; do
            quant=$([ $kind = bf16 ] || echo "--quant $kind")
            once kinora-1.3b-$kind.json bench --random wan2.1-t2v-1.3b --what dit --dtype bf16 --runs 5 $quant
        done
        once kinora-1.3b-vae.json bench --random wan2.1-t2v-1.3b --what vae --runs 2
        once torch-1.3b.txt torch ceilings step:wan2.1-1.3b vae:wan2.1-1.3b --only attention,eager,eager-cudnn,bf16,f32
        once torch-1.3b-compiled.txt torch step:wan2.1-1.3b --only compiled,compiled-cudnn
        ;;
    bench-5b)
        for kind in bf16 fp8; do
            quant=$([ $kind = bf16 ] || echo "--quant $kind")
            once kinora-5b-$kind.json bench --random wan2.2-ti2v-5b --what dit --dtype bf16 --runs 3 $quant
        done
        once kinora-5b-vae.json bench --random wan2.2-ti2v-5b --what vae --size 1280x704x33 --runs 1
        once torch-5b.txt torch step:wan2.2-5b --only eager-t1,eager-cudnn vae:wan2.2-5b:33
        ;;
    table)
        files=()
        for file in "$out"/kinora-*.json; do
            kind=bf16
            case $file in *fp8*) kind=fp8 ;; *int8*) kind=int8 ;; *vae*) kind=f16 ;; esac
            files+=("$kind=$file")
        done
        python3 scripts/gpu/table.py "$out/torch.json" "${files[@]}"
        ;;
    *)
        echo "no stage $stage: agree, oracle, kernels, bench-1.3b, bench-5b, table"
        exit 2
        ;;
    esac
done
exit $failed
