// OpenAI's own client for Node against a running `kinora serve` with the model that ships with Kinora.
//
//     npm install --prefix scripts/serve
//     node scripts/serve/openai_client.mjs http://127.0.0.1:7788 [KEY]

import assert from "node:assert/strict";
import OpenAI, { toFile } from "openai";

const [base, apiKey = "none"] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${base}/v1`, apiKey, maxRetries: 0 });
const SMALL = { size: "32x48", num_frames: 5, num_inference_steps: 3, seed: 5 };

/** The clip when it is over: this client has no poll of its own. */
async function over(video) {
    while (!["completed", "failed"].includes(video.status)) {
        await new Promise((resolve) => setTimeout(resolve, 50));
        video = await client.videos.retrieve(video.id);
    }
    return video;
}

async function made(body) {
    const video = await over(await client.videos.create(body));
    assert.equal(video.status, "completed", JSON.stringify(video));
    return video;
}

async function refused(kind, code, call) {
    const error = await call().then(() => null, (error) => error);
    assert(error instanceof kind, `${kind.name} was expected, not ${error}`);
    assert.equal(error.code, code, `${error}`);
}

const video = await made({ prompt: "a red ball rolls", ...SMALL });
assert.deepEqual([video.progress, video.size, video.error], [100, "32x48", null]);
const content = Buffer.from(await (await client.videos.downloadContent(video.id)).arrayBuffer());
assert.equal(content.subarray(4, 8).toString(), "ftyp");
const picture = Buffer.from(await (await client.videos.downloadContent(video.id, { variant: "thumbnail" })).arrayBuffer());
assert.equal(picture.subarray(1, 4).toString(), "PNG");

const reference = await toFile(picture, "a.png", { type: "image/png" });
await over(await client.videos.create({ prompt: "on", input_reference: reference, ...SMALL }));
const remix = await client.videos.remix(video.id, { prompt: "a blue ball" });
assert.equal(remix.remixed_from_video_id, video.id);
assert.equal((await over(remix)).status, "completed");
const extended = await client.videos.extend({ prompt: "it rolls on", seconds: "0.25", video: { id: video.id } });
assert.equal((await over(extended)).status, "completed");
const longer = await made({ prompt: "a red ball rolls far", ...SMALL, num_frames: 13 });
const clip = await toFile(await client.videos.downloadContent(longer.id), "clip.mp4");
const again = await client.videos.extend({ prompt: "it rolls on", seconds: "0.25", video: clip });
assert.equal((await over(again)).status, "completed");

const listed = [];
for await (const entry of client.videos.list({ limit: 2 })) {
    listed.push(entry.id);
}
assert(listed.length >= 6 && new Set(listed).size === listed.length && listed.includes(video.id), `${listed}`);
// The client's own option for this is not sent by it.
const once = () => client.videos.create({ prompt: "once", ...SMALL }, { headers: { "Idempotency-Key": "n-1" } });
assert.equal((await once()).id, (await once()).id);
assert.equal((await client.videos.delete(video.id)).deleted, true);
await refused(OpenAI.NotFoundError, "video_not_found", () => client.videos.retrieve(video.id));
await refused(OpenAI.BadRequestError, "invalid_value", () => client.videos.create({ prompt: "x", seconds: "0" }));
await refused(OpenAI.BadRequestError, "unknown_parameter", () => client.videos.create({ prompt: "x", lora: "y" }));
await refused(OpenAI.NotFoundError, "model_not_found", () => client.videos.create({ prompt: "x", model: "sora-2" }));
for await (const entry of client.videos.list()) {
    await over(entry);
    await client.videos.delete(entry.id);
}
console.log("OpenAI's client for Node makes, lists, changes and deletes clips");
