#!/usr/bin/env bash
# Makes docs/gallery/kinora.webp, the moving picture at the top of the README: clips of the model that ships with Kinora, each above its prompt.
#
#     scripts/gallery.sh target/release/kinora
#
# Needs ffmpeg, img2webp (Debian's `webp`) and the fonts Noto Sans CJK (`fonts-noto-cjk`).
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: gallery.sh PROGRAM" >&2; exit 2; }
program=$(realpath "$1")
cd "$(dirname "$0")/.."
picture=$PWD/docs/gallery/kinora.webp
# With the ends of the lines under them.
prompts=(
    "a red ball bounces|on a striped blue background"
    "a big green triangle moves left|on a yellow background"
    "一个小红色球向左移动，|蓝色条纹背景"
    "a cyan square circles around|on a striped purple background"
    "a white ball stays still on a green|background, the camera zooms in"
    "a small black square moves up|on a cyan background"
)
font=$(fc-match -f '%{file}' 'Noto Sans CJK SC')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

inputs=() filters="" layout="" names=""
for index in "${!prompts[@]}"; do
    prompt=${prompts[index]}
    [[ $prompt == *，* ]] && words=${prompt//|/} || words=${prompt//|/ }
    "$program" generate "$words" --seed 7 --no-metadata -q -o "$index.y4m"
    echo "${prompt//|/$'\n'}" > "$index.txt"
    inputs+=(-i "$index.y4m")
    filters+="[$index:v]scale=224:128:flags=lanczos,pad=248:196:12:12:0x12141a,"
    filters+="drawtext=fontfile=$font:textfile=$index.txt:fontsize=12:fontcolor=0xe8eaf0:x=12:y=148:line_spacing=3[v$index];"
    names+="[v$index]"
    column=$((index % 3)) row=$((index / 3))
    layout+="$((column * 248))_$((row * 196))|"
done
ffmpeg -v error "${inputs[@]}" -filter_complex "$filters${names}xstack=inputs=${#prompts[@]}:layout=${layout%|}" frame%03d.png
img2webp -loop 0 -lossy -q 80 -m 6 -d 125 frame*.png -o "$picture" >/dev/null
[ "$(stat -c %s "$picture")" -le 1000000 ] || { echo "$picture is larger than 1 MB" >&2; exit 1; }
