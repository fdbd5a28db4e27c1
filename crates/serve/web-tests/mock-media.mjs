// Small made-up clips and pictures for the mock server, made once by FFmpeg.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const FOLDER = fileURLToPath(new URL("./media/", import.meta.url));

const gradient = (size, colours, seed) =>
  `gradients=s=${size}:c0=${colours[0]}:c1=${colours[1]}:c2=${colours[2]}:n=3:seed=${seed}:speed=0.02:duration=3:rate=16,format=yuv420p,gblur=sigma=6,noise=alls=4:allf=t,vignette`;

/** Name, size and what moves. */
const CLIPS = [
  ["dusk", [480, 272], gradient("480x272", ["0xf2a65a", "0x772f1a", "0x1b1b3a"], 3)],
  ["sea", [480, 272], gradient("480x272", ["0x0b3954", "0x5aa9a5", "0xe0f2e9"], 7)],
  ["moss", [272, 480], gradient("272x480", ["0x1b3a2f", "0x9cb380", "0xe9e3b4"], 11)],
  ["plum", [352, 352], gradient("352x352", ["0x2d1e2f", "0xa4508b", "0xffd6c0"], 5)],
  ["ash", [480, 272], gradient("480x272", ["0x22252a", "0x8d99ae", "0xedf2f4"], 9)],
  ["gold", [480, 204], gradient("480x204", ["0x3d2b1f", "0xd9a441", "0xfff1c9"], 13)],
];

const ffmpeg = (...args) => execFileSync("ffmpeg", ["-hide_banner", "-loglevel", "error", "-y", ...args]);

function make(name, [width, height], filter) {
  const at = (file) => `${FOLDER}${name}${file}`;
  if (existsSync(at("-preview3.webp"))) return;
  ffmpeg("-f", "lavfi", "-i", filter, "-t", "3", "-pix_fmt", "yuv420p", "-c:v", "libx264", "-movflags", "+faststart", at(".mp4"));
  ffmpeg("-i", at(".mp4"), "-frames:v", "1", at(".png"));
  ffmpeg("-sseof", "-0.2", "-i", at(".mp4"), "-frames:v", "1", at("-last.png"));
  for (const [n, noise] of [[1, 90], [2, 45], [3, 15]]) {
    const small = `scale=${Math.round(width / 4)}:${Math.round(height / 4)},noise=c0s=${noise}:allf=t,gblur=sigma=1,fps=6`;
    ffmpeg("-i", at(".mp4"), "-t", "2", "-vf", small, "-c:v", "libwebp_anim", "-loop", "0", at(`-preview${n}.webp`));
  }
}

/** Makes what is missing, and returns the clips' names with their sizes. */
export function prepare() {
  mkdirSync(FOLDER, { recursive: true });
  try {
    for (const clip of CLIPS) make(...clip);
  } catch (error) {
    console.error(`error: the mock's clips could not be made: ${error.message}\nhint: install FFmpeg with libx264 and libwebp`);
    process.exit(1);
  }
  return CLIPS.map(([name, [width, height]]) => ({ name, width, height }));
}

export const media = (file) => readFileSync(`${FOLDER}${file}`);
export const mediaPath = (file) => `${FOLDER}${file}`;
