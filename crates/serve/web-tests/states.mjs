// States that need the mock server: a busy queue, refusals, a restart, a sign-in.
import { accessible, assert, equal, fits, NARROW, open, shot, until, WIDE } from "./helpers.mjs";

const waitingRows = (page) => page.locator(".rows .row");

async function queueActions({ url, mock }) {
  await mock({ busy: true, still: true });
  const { page, close } = await open(url, WIDE);
  await until(async () => (await waitingRows(page).count()) === 3, "three clips wait");
  const ids = () => waitingRows(page).evaluateAll((rows) => rows.map((row) => row.dataset.clip));
  const [a, b, c] = await ids();
  await waitingRows(page).nth(2).getByRole("button", { name: "Make this next" }).click();
  await until(async () => (await ids()).join() === [c, a, b].join(), "the last one did not become the next");
  await waitingRows(page).nth(2).getByRole("button", { name: "Move up" }).click();
  await until(async () => (await ids()).join() === [c, b, a].join(), "the clip did not move up");
  await waitingRows(page).nth(0).getByRole("button", { name: "Pause" }).click();
  await until(async () => (await page.locator(`[data-clip="${c}"] .row-place`).textContent()) === "Paused", "the clip is not paused");
  await page.getByRole("button", { name: "Pause waiting" }).click();
  await page.getByRole("button", { name: "Resume all" }).click();
  await page.locator(`[data-clip="${b}"]`).getByRole("button", { name: "Edit" }).click();
  await page.locator(".editing").waitFor();
  await accessible(page, "editing");
  await shot(page, "editing");
  await page.fill("#prompt", "another prompt for the waiting clip");
  await page.getByRole("button", { name: "Save changes" }).click();
  await until(() => page.locator(`[data-clip="${b}"]`).getByText("another prompt for the waiting clip").count(), "the waiting clip was not changed");
  await page.locator(`[data-clip="${a}"]`).getByRole("button", { name: "Cancel" }).click();
  await until(async () => (await waitingRows(page).count()) === 2, "the clip was not cancelled");
  await page.locator(".running").getByRole("button", { name: "Cancel" }).click();
  await page.getByText("Stopping").waitFor();
  await page.getByRole("button", { name: "Cancel waiting" }).click();
  await page.locator("dialog").getByRole("button", { name: "Keep" }).click();
  equal(await waitingRows(page).count(), 2, "waiting after keeping");
  await page.getByRole("button", { name: "Cancel waiting" }).click();
  await page.locator("dialog").getByRole("button", { name: "Cancel waiting" }).click();
  await until(async () => (await waitingRows(page).count()) === 0, "not all were cancelled");
  await close();
}

async function dragging({ url, mock }) {
  await mock({ busy: true, still: true });
  const { page, close } = await open(url, WIDE);
  await until(async () => (await waitingRows(page).count()) === 3, "three clips wait");
  const ids = () => waitingRows(page).evaluateAll((rows) => rows.map((row) => row.dataset.clip));
  const [a, b, c] = await ids();
  const row = (id) => page.locator(`.row[data-clip="${id}"]`);
  const drop = async (id, onto, y) => row(id).dragTo(row(onto), { sourcePosition: { x: 20, y: 20 }, targetPosition: { x: 40, y } });
  await drop(c, a, 4);
  await until(async () => (await ids()).join() === [c, a, b].join(), "the last row did not go before the first");
  await drop(c, b, 44);
  await until(async () => (await ids()).join() === [a, b, c].join(), "the first row did not go behind the last");
  await drop(a, b, 44);
  await until(async () => (await ids()).join() === [b, a, c].join(), "a row did not go behind its neighbour");
  equal(await page.locator(".drop-above, .drop-below").count(), 0, "a line stayed after the drop");
  equal(await page.locator(".veil").count(), 0, "a row is not a file");
  await close();
}

async function olderOnes({ url, mock }) {
  await mock({});
  const { page, close } = await open(url, WIDE);
  await page.getByRole("button", { name: "Select", exact: true }).click();
  const tiles = page.locator(".tile[data-clip]");
  const before = await tiles.count();
  const starred = await page.locator(".tile .tile-star.on").count();
  await page.getByRole("button", { name: "Older than" }).click();
  await page.locator("#field-days").fill("");
  await page.locator("dialog").getByRole("button", { name: "Delete" }).click();
  await page.locator("#field-days-error").waitFor();
  await accessible(page, "deleting old clips");
  await shot(page, "older");
  await page.locator("#field-days").fill("365");
  await page.locator("dialog").getByRole("button", { name: "Delete" }).click();
  await page.getByText("0 clips deleted").first().waitFor();
  equal(await tiles.count(), before, "nothing is so old");
  await page.getByRole("button", { name: "Select", exact: true }).click();
  await page.getByRole("button", { name: "Older than" }).click();
  await page.locator("#field-days").fill("0");
  await page.locator("dialog").getByRole("button", { name: "Delete" }).click();
  await until(async () => (await tiles.count()) < before, "the old ones are not gone");
  equal(await page.locator(".tile .tile-star.on").count(), await tiles.count(), "those with a star stay");
  assert((await tiles.count()) >= Math.max(1, starred), "starred clips were deleted");
  await close();
}

async function onlyPictures({ url, mock }) {
  await mock({});
  const { page, close } = await open(url, WIDE);
  await page.locator("#tab-text[aria-selected=true]").waitFor();
  await page.selectOption("#field-model", "studio-i2v");
  await until(() => page.locator("#tab-image[aria-selected=true]").count(), "the tab of a picture did not open by itself");
  equal(await page.locator("#tab-text").count(), 0, "a tab that the model cannot do");
  equal(await page.locator(".slot").count(), 1, "the slot of the picture");
  await page.fill("#prompt", "a fox walks");
  await page.locator(".make .primary").click();
  await until(() => page.locator("#field-image-error, .slot .field-error, [id*=image-error]").count(), "a missing picture was not said");
  await accessible(page, "a model that needs a picture");
  await page.selectOption("#field-model", "studio-5b");
  await page.locator("#tab-text").waitFor();
  await close();
}

async function selection({ url, mock }) {
  await mock({});
  const { page, close } = await open(url, WIDE);
  await page.getByRole("button", { name: "Select", exact: true }).click();
  const before = await page.locator(".tile[data-clip]").count();
  await page.locator(".tile-open").nth(0).click();
  await page.locator(".tile-open").nth(3).click();
  await accessible(page, "selecting");
  await shot(page, "selecting");
  await page.getByRole("button", { name: "Compare" }).click();
  const times = () => page.locator("dialog video").evaluateAll((all) => all.map((video) => video.currentTime));
  await until(async () => (await times()).every((time) => time > 0.2), "the two clips do not play");
  await page.getByRole("button", { name: "Pause", exact: true }).click();
  await page.locator('dialog input[type="range"]').fill("1.5");
  await until(async () => (await times()).every((time) => Math.abs(time - 1.5) < 0.1), "the two clips are not in sync");
  await accessible(page, "comparing");
  await shot(page, "compare");
  await page.keyboard.press("Escape");
  await page.locator(".select-bar").getByRole("button", { name: "Delete" }).click();
  await until(() => page.evaluate(() => document.activeElement.textContent === "Keep"), "the harmless answer does not have the focus");
  await shot(page, "confirm");
  await page.locator("dialog").getByRole("button", { name: "Delete" }).click();
  await until(async () => (await page.locator(".tile[data-clip]").count()) === before - 2, "the two clips were not deleted");
  await page.locator('.gallery-tools label:has(input[value="failed"])').click();
  await until(async () => (await page.locator(".tile[data-clip]").count()) === 1, "the filter of failed ones");
  await page.locator(".tile-open").click();
  await page.getByText("This clip failed").waitFor();
  await shot(page, "failed");
  await close();
}

async function pages({ url, mock }) {
  await mock({ many: true });
  const { page, close } = await open(url, WIDE);
  await until(async () => (await page.locator(".tile[data-clip]").count()) === 50, "the snapshot has 50 clips");
  await page.getByRole("button", { name: "Show older clips" }).click();
  await until(async () => (await page.locator(".tile[data-clip]").count()) === 98, "a page of 48 older clips");
  await page.fill(".search input", "honey");
  await until(async () => (await page.locator(".tile[data-clip]").count()) === 14, "clips of the search, also those that were not loaded");
  await close();
}

async function continuing({ url, mock }) {
  await mock({});
  const { page, close } = await open(url, WIDE);
  await page.selectOption("#field-model", "studio-control"); // which cannot go on from a clip
  await page.locator(".tile[data-clip]:not(.bad) .tile-open").first().click();
  await page.getByRole("button", { name: "Go on from here" }).click();
  await until(() => page.locator("#tab-extend[aria-selected=true]").count(), "the tab of continuing");
  await page.locator(".slot-media video").waitFor();
  await page.getByText("Changed the model to").waitFor();
  await page.locator(".tile[data-clip]:not(.bad) .tile-open").first().click();
  await page.getByRole("button", { name: "Last frame as first" }).click();
  await until(() => page.locator("#tab-image[aria-selected=true]").count(), "the tab of a first frame");
  await page.locator(".slot-media img").waitFor();
  await page.locator("#tab-image").press("ArrowRight");
  await until(() => page.locator("#tab-frames[aria-selected=true]").count(), "the arrow key goes to the next tab");
  await page.locator(".slot").nth(1).getByRole("button", { name: "From my clips" }).click();
  await page.locator(".pick button").first().click();
  await until(async () => (await page.locator(".slot-media img").count()) === 2, "both frames are there");
  await page.fill("#prompt", "between two pictures");
  const sent = page.waitForRequest((request) => request.method() === "POST" && request.url().endsWith("/api/clips"));
  await page.locator(".make .primary").click();
  const body = (await sent).postDataJSON();
  assert(body.image?.startsWith("video_") && body.last_image?.startsWith("video_"), `what was sent: ${JSON.stringify(body)}`);
  await close();
}

async function cameraMoves({ url, mock }) {
  await mock({});
  const { page, close } = await open(url, WIDE);
  await page.selectOption("#field-model", "studio-5b");
  await page.locator("#camera summary").click();
  await page.locator("#axis-pan").fill("5");
  await page.locator("#axis-zoom").fill("-3");
  const way = () => page.locator(".sketch-view").getAttribute("d");
  const [before] = [await way()];
  await until(async () => (await way()) !== before, "the sketch does not move");
  await page.fill("#prompt", "a moving camera");
  const sent = () => page.waitForRequest((request) => request.method() === "POST" && request.url().endsWith("/api/clips"));
  let request = sent();
  await page.locator(".make .primary").click();
  equal((await request).postDataJSON().camera, "pan=5,zoom=-3", "the move that was sent");
  await page.getByRole("button", { name: "Forward and up" }).click();
  await page.locator("#axis-zoom").scrollIntoViewIfNeeded();
  await page.waitForTimeout(1500);
  await shot(page, "camera");
  await page.locator('.count label:has-text("×3")').click();
  request = sent();
  await page.locator(".make .primary").click();
  const body = (await request).postDataJSON();
  equal(`${body.camera} ${body.count}`, "forward-up 3", "the preset and the count that were sent");
  await close();
}

async function refusals({ url, mock }) {
  await mock({ full: true, limited: true });
  const { page, close } = await open(url, WIDE, [400, 429, 500]);
  await page.locator(".chip").first().click();
  await page.locator(".make .primary").click();
  await page.getByText("The queue is full").waitFor();
  await accessible(page, "a full queue");
  await shot(page, "full");
  await page.locator(".form-error").getByRole("button").click();
  await mock({ error: true });
  await page.locator(".make .primary").click();
  await page.locator(".form-error").getByText("the store could not be written").waitFor();
  await page.waitForTimeout(6000);
  equal(await page.locator(".form-error").count(), 1, "the error stays until it is dismissed");
  await mock({});
  await page.fill("#prompt", "FORBIDDEN <img src=x onerror=alert(1)>");
  await page.locator(".make .primary").click();
  await until(async () => (await page.locator("#prompt-error").textContent()) === "the prompt is longer than 4,000 characters", "the error stands at the prompt");
  await page.fill("#prompt", "FAIL <b>bold</b>");
  await page.locator(".make .primary").click();
  await until(() => page.locator(".message.error").count(), "a failed clip is said", 20000);
  await shot(page, "clip-failed");
  await close();
}

async function restart({ url, mock }) {
  await mock({ busy: true, still: true });
  const { page, close } = await open(url, WIDE, ["ERR_", "EventSource"]);
  await page.locator(".running").waitFor();
  await mock({ down: 3500 });
  await page.locator(".lost").waitFor();
  await accessible(page, "a server that restarts");
  await shot(page, "lost");
  await mock({ empty: true });
  await until(async () => !(await page.locator(".lost").count()), "the page did not connect again", 15000);
  await until(async () => !(await page.locator("[data-clip]").count()), "the snapshot did not replace everything");
  await shot(page, "empty");
  await accessible(page, "no clips");
  await close();
}

async function signIn({ url, mock }) {
  await mock({ signin: true, limited: true });
  const { page, close } = await open(url, NARROW, [401]);
  await page.locator("#key").waitFor();
  await accessible(page, "signing in");
  await fits(page, "signing in");
  await page.fill("#key", "kin_wrong");
  await page.keyboard.press("Enter");
  await page.locator("#key-error").waitFor();
  await shot(page, "sign-in");
  await page.fill("#key", "kin_test");
  await page.keyboard.press("Enter");
  await page.locator("#prompt").waitFor();
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.locator("#key").waitFor();
  await close();
}

/** Models that the server cannot use do not hinder the others. */
async function brokenModels({ url, mock }) {
  await mock({ broken: "one", empty: true });
  const { page, close } = await open(url, WIDE);
  await page.getByText("mine cannot be used: there is no model").waitFor();
  equal(await page.locator('#field-model option[value="mine"]').count(), 0, "a model that cannot be chosen");
  await until(() => page.locator("[data-plan]").count(), "no plan");
  await accessible(page, "a broken model");
  await mock({ broken: "all", empty: true });
  await page.reload();
  await page.getByText("studio-5b cannot be used").waitFor();
  await accessible(page, "only broken models");
  await shot(page, "broken");
  await close();
}

async function phone({ url, mock }) {
  await mock({ still: true });
  const { page, close } = await open(url, NARROW);
  await page.locator(".chip").first().tap();
  await page.locator(".make .primary").tap();
  await until(() => page.locator(".queue").count(), "the clip is in the queue");
  await until(async () => (await page.locator(".queue").boundingBox()).y < 700, "the queue came into sight");
  await page.locator(".tile[data-clip]:not(.bad) .tile-open").first().tap();
  await page.locator("dialog video").waitFor();
  await fits(page, "the viewer");
  await shot(page, "phone-viewer");
  await close();
}

export const states = [
  ["queue: move, pause, edit, cancel", queueActions],
  ["queue: rows are dragged", dragging],
  ["delete what is old", olderOnes],
  ["a model that needs a picture", onlyPictures],
  ["select, compare, delete, filter", selection],
  ["older pages and search", pages],
  ["continue a clip, first and last frame", continuing],
  ["camera, count", cameraMoves],
  ["refusals", refusals],
  ["a restart of the server", restart],
  ["signing in and out", signIn],
  ["models that cannot be used", brokenModels],
  ["a phone", phone],
];
