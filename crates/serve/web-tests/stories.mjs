// Stories and paths of the camera, in both languages and at both widths.
import { readFileSync } from "node:fs";
import { accessible, assert, equal, fits, NARROW, open, picture, shot, until, WIDE } from "./helpers.mjs";

// The page's own module, as a browser takes it: no package says that its folder has modules.
const { movesOf, newMove, PARTS, pathOf, placeAt, stopsOf } = await import(`data:text/javascript,${encodeURIComponent(readFileSync(new URL("../web/moves.js", import.meta.url), "utf8"))}`);

const MADE = 120_000; // milliseconds for a clip of a real server
const LOOKS = [["wide-en", { ...WIDE }], ["wide-zh", { ...WIDE, locale: "zh-CN", colorScheme: "dark" }], ["390-en", { ...NARROW, colorScheme: "dark" }], ["390-zh", { ...NARROW, locale: "zh-CN" }]];

const posted = (page, path) => page.waitForRequest((request) => request.method() === "POST" && request.url().endsWith(`/api/${path}`)).then((request) => request.postDataJSON());
const prompts = (page) => page.locator(".shot-words textarea").evaluateAll((all) => all.map((box) => box.value));
const focused = (page) => page.evaluate(() => document.activeElement.id);

/** Chooses a model that has the tab, and the tab. */
async function openTab(page, tab) {
  await page.locator("#prompt").waitFor();
  for (const name of await page.locator("#field-model option").evaluateAll((all) => all.map((option) => option.value))) {
    await page.selectOption("#field-model", name);
    if (await page.locator(`#tab-${tab}`).count()) return page.locator(`#tab-${tab}`).click();
  }
  throw new Error(`no model has the tab ${tab}`);
}

/** A finger, or a mouse, that is put down, moved and lifted. */
async function pointer(page, touch) {
  if (!touch) return { down: async (x, y) => (await page.mouse.move(x, y), page.mouse.down()), move: (x, y) => page.mouse.move(x, y), up: () => page.mouse.up() };
  const session = await page.context().newCDPSession(page);
  const send = (type, touchPoints) => session.send("Input.dispatchTouchEvent", { type, touchPoints });
  return { down: (x, y) => send("touchStart", [{ x, y }]), move: (x, y) => send("touchMove", [{ x, y }]), up: () => send("touchEnd", []) };
}

/** Drags the handle of a shot onto the lower part of the next one. */
async function dragShot(page, from, touch) {
  await page.locator(".shot").nth(from + 1).scrollIntoViewIfNeeded();
  await page.locator(".shot").nth(from).evaluate((card) => card.scrollIntoView({ block: "nearest" }));
  const grip = await page.locator(".grip").nth(from).boundingBox();
  const { down, move, up } = await pointer(page, touch);
  await down(grip.x + grip.width / 2, grip.y + grip.height / 2);
  const end = async () => page.locator(".shot").nth(from + 1).boundingBox().then((box) => box.y + box.height * 0.7);
  for (const part of [0.3, 0.6, 1]) await move(grip.x + 20, grip.y + (await end() - grip.y) * part);
  await until(() => page.locator(".shot.dragged").count(), "the dragged shot cannot be told");
  await move(grip.x + 20, await end());
  await up();
}

async function story({ url, key, mock, real }) {
  for (const [name, options] of LOOKS) {
    await mock({ empty: true });
    const { page, close } = await open(url, { ...options, key }, [400]);
    const look = async (state) => {
      await page.waitForTimeout(250);
      await accessible(page, `${name} ${state}`);
      await fits(page, `${name} ${state}`);
      await shot(page, `story-${name}-${state}`);
    };
    await openTab(page, "story");
    equal(await page.locator(".shot").count(), 2, "the shots of a new story");
    await look("empty");
    await page.locator(".make .primary").click();
    await page.locator("#prompt-error").waitFor();
    equal(await focused(page), "prompt", "the focus goes to the shot without words");
    await page.locator(".story .chip").click();
    await until(async () => (await prompts(page)).every(Boolean), "the example has words");
    const [a, b, c] = await prompts(page);
    // By keys: the handle keeps the focus.
    await page.locator(".grip").nth(2).focus();
    const grip = await focused(page);
    await page.keyboard.press("ArrowUp");
    await until(async () => (await prompts(page)).join() === [a, c, b].join(), "the shot did not move up");
    await until(async () => (await focused(page)) === grip, "the handle lost the focus");
    assert((await page.locator("[data-said]").textContent()).includes("2"), "the move is said");
    await page.locator(".shot").nth(1).locator('[id$="-down"]').click();
    await until(async () => (await prompts(page)).join() === [a, b, c].join(), "the shot did not move down");
    await dragShot(page, 0, options.hasTouch);
    await until(async () => (await prompts(page)).join() === [b, a, c].join(), "the shot was not dragged");
    await dragShot(page, 0, options.hasTouch);
    await until(async () => (await prompts(page)).join() === [a, b, c].join(), "the shot was not dragged back");
    // One more, and away with it; it comes back, and goes again.
    await page.locator("#shots").click();
    await until(async () => (await prompts(page)).length === 4, "no shot was added");
    await until(async () => (await focused(page)).startsWith("shot-"), "the focus is not in the new shot");
    await page.keyboard.type("a white star");
    const remove = () => page.locator(".shot").nth(3).locator(".shot-head .icon-button").last().click();
    await remove();
    await until(async () => (await prompts(page)).length === 3, "the shot was not removed");
    await page.locator(".message .small").click();
    await until(async () => (await prompts(page)).at(3) === "a white star", "the shot did not come back");
    await remove();
    for (const at of [0, 1, 2]) await page.locator(".shot-seconds input").nth(at).fill(String([0.6, 1.1, 0.6][at]));
    const [first, second] = await page.locator(".story-band button").evaluateAll((all) => all.map((part) => part.getBoundingClientRect().width));
    assert(second > 1.4 * first, "the band shows the lengths");
    await page.locator(".shot").nth(1).locator(".join input").nth(1).check({ force: true });
    await page.locator(".shot").nth(1).locator(".shot-row button").first().click();
    await page.locator(".shot").nth(1).locator(".camera-presets button").first().click();
    await page.locator(".shot").nth(2).locator(".shot-row button").last().click();
    await page.locator('.shot-more [id$="-negative"]').fill("rain");
    await page.locator('.shot-more [id$="-seed"]').fill("4x2");
    await page.locator('.shot-more [id$="-seed"]').blur();
    await until(() => page.locator("[data-plan]").count(), "no plan");
    await look("filled");
    // An error of the server stands at the shots.
    await page.locator(".shot-seconds input").nth(2).fill("-1");
    await page.locator("#shots-error").waitFor();
    await page.locator("#shots-error").scrollIntoViewIfNeeded();
    await look("error");
    await page.locator(".shot-seconds input").nth(2).fill("0.6");
    await until(() => page.locator("[data-plan]").count(), "the plan did not come back");
    const answered = page.waitForResponse((answer) => answer.request().method() === "POST" && answer.url().endsWith("/api/clips"));
    await page.locator(".make .primary").click();
    const answer = await answered;
    const { model, shots, ...rest } = answer.request().postDataJSON();
    const tile = page.locator(`.tile[data-clip="${(await answer.json()).clips[0].id}"]:not(.bad)`);
    equal(JSON.stringify(shots), JSON.stringify([
      { prompt: a, seconds: 0.6, ...(shots[0].camera ? { camera: shots[0].camera } : {}) },
      { prompt: b, seconds: 1.1, join: "cut", camera: "down-back" },
      { prompt: c, seconds: 0.6, join: "cut", negative_prompt: "rain", camera: shots[2].camera, seed: "42" },
    ]), "the shots that were sent");
    equal(JSON.stringify(rest), "{}", "what was sent beside the shots");
    await until(() => page.locator(".queue [data-clip]").count(), "the story is not in the queue");
    if (!real) {
      await page.locator(".preview img").waitFor();
      await page.locator(".queue").scrollIntoViewIfNeeded();
      await look("running");
    }
    await until(() => tile.count(), "the story was not made", MADE);
    await tile.locator(".tile-open").click();
    await until(() => page.locator("dialog video").evaluate((video) => video.readyState >= 2 && !video.error), "the story does not play");
    equal(JSON.stringify(await page.locator(".viewer-shots li > p:first-child").allTextContents()), JSON.stringify([a, b, c]), "the shots beside the clip");
    await look("viewer");
    const planned = posted(page, "plan");
    await page.locator(".viewer-actions .primary").click();
    const again = await planned;
    equal(JSON.stringify(again.shots.map(({ join, ...one }) => ({ ...one, join: join ?? null }))), JSON.stringify(shots.map(({ join, ...one }) => ({ ...one, join: join ?? null }))), "the settings again");
    equal(again.model, model, "the model again");
    assert(/^\d+$/.test(again.seed), "the seed of the clip that was made");
    equal(await page.locator("#tab-story").getAttribute("aria-selected"), "true", "the tab of the settings");
    await page.reload();
    await until(async () => JSON.stringify(await prompts(page)) === JSON.stringify([a, b, c]), "the shots after a reload");
    await close();
  }
}

/** What only the mock has: a model that needs pictures, clips to begin after, and waiting stories that are changed. */
async function storyPictures({ url, mock }) {
  await mock({ still: true });
  const { page, close } = await open(url, WIDE);
  await page.locator("#prompt").waitFor();
  await page.selectOption("#field-model", "studio-i2v");
  await page.locator("#tab-story").click();
  await page.locator(".story .chip").click();
  await page.locator(".make .primary").click();
  await until(async () => (await page.locator(".shot .field-error").count()) === 2, "the pictures that are missing: of the first shot and of the one after a cut");
  await accessible(page, "pictures are missing");
  await shot(page, "story-pictures-missing");
  const file = await picture(page);
  await page.locator(".shot").nth(0).locator('input[type="file"]').setInputFiles(file);
  await page.locator(".shot").nth(0).locator(".slot-media img").waitFor();
  await page.locator(".shot").nth(2).getByRole("button", { name: "From my clips" }).click();
  await page.locator(".pick button").first().click();
  await until(async () => (await page.locator(".shot .slot-media img").count()) === 2, "both pictures are there");
  await until(() => page.locator("[data-plan]").count(), "no plan");
  // After a clip, the first shot goes on from it and has no picture of its own.
  await page.locator("#slot-extend").click();
  await page.locator(".pick button").first().click();
  await page.locator(".story > .slot video").waitFor();
  equal(await page.locator(".join").count(), 3, "the first shot follows the clip");
  equal(await page.locator(".shot .slot-media img").count(), 1, "a shot that goes on has no picture");
  await accessible(page, "a story after a clip");
  await page.evaluate(() => document.querySelector(".compose-body").scrollTo(0, 0));
  await shot(page, "story-after");
  const sent = posted(page, "clips");
  await page.locator(".make .primary").click();
  const body = await sent;
  assert(body.extend?.startsWith("video_") && !body.shots[0].image && body.shots[2].image?.startsWith("video_"), `what was sent: ${JSON.stringify(body)}`);
  // A picture that is dropped beside the slots goes to a shot, not to another tab.
  await page.locator(".shot").nth(2).locator(".slot-remove").click();
  await page.evaluate((data) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0))], "dropped.png", { type: "image/png" }));
    for (const type of ["dragenter", "dragover", "drop"]) document.querySelector(".gallery").dispatchEvent(new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer: transfer }));
  }, file.buffer.toString("base64"));
  await page.locator(".shot").nth(2).locator(".slot-media img").waitFor();
  equal(await page.locator("#tab-story").getAttribute("aria-selected"), "true", "the tab after a drop");
  // The waiting story is changed.
  await page.locator(".row").first().waitFor().catch(() => {});
  await page.locator("[data-clip] .row-actions [aria-label^=Edit]").last().click();
  await page.locator(".editing").waitFor();
  await page.locator(".shot-words textarea").nth(1).fill("another second shot");
  await page.getByRole("button", { name: "Save changes" }).click();
  await until(() => page.locator(".row").getByText("another second shot").count(), "the waiting story was not changed");
  await shot(page, "story-waiting");
  await page.reload();
  await page.locator(".story > .slot video").waitFor();
  await until(() => page.locator(".shot").nth(2).locator(".slot-media img").count(), "the picture is there after a reload");
  await close();
}

async function path({ url, mock }) {
  for (const [name, options] of LOOKS) {
    await mock({ empty: true });
    const { page, close } = await open(url, options, [400]);
    const look = async (state) => {
      await page.locator("#camera").evaluate((part) => part.scrollIntoView({ block: "start" }));
      await page.waitForTimeout(250);
      await accessible(page, `${name} ${state}`);
      await fits(page, `${name} ${state}`);
      await shot(page, `path-${name}-${state}`);
    };
    await page.locator("#prompt").waitFor();
    await page.locator("#camera summary").click();
    equal(await page.locator('input[name="choice-camera-kind"]').count(), 0, "a model without camera control takes no path");
    await page.selectOption("#field-model", "studio-5b");
    await page.fill("#prompt", "a harbour");
    await page.locator('input[name="choice-camera-kind"][value="path"]').check({ force: true });
    const tabs = page.locator(".band-parts [role=tab]");
    equal(await tabs.count(), 2, "the moves of a new path");
    const way = () => page.locator(".sketch-view").getAttribute("d");
    const before = await way();
    await until(async () => (await way()) !== before, "the sketch does not move");
    await look("new");
    // All by keys: the second move, a third one, what it does, how long, its place.
    await tabs.nth(0).focus();
    await page.keyboard.press("ArrowRight");
    equal(await tabs.nth(1).getAttribute("aria-selected"), "true", "the arrow key chooses the next move");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await until(async () => (await tabs.count()) === 3, "no move was added");
    equal(await tabs.nth(2).getAttribute("aria-selected"), "true", "the new move is the chosen one");
    await page.locator("#path-vertical").focus();
    for (let n = 0; n < 4; n += 1) await page.keyboard.press("ArrowRight");
    await page.locator("#path-tilt").focus();
    for (let n = 0; n < 2; n += 1) await page.keyboard.press("ArrowLeft");
    await page.locator("#path-share").focus();
    await page.keyboard.press("ArrowRight");
    await tabs.nth(2).focus();
    await page.keyboard.press("Alt+ArrowLeft");
    await until(async () => (await tabs.nth(1).getAttribute("aria-selected")) === "true", "the move did not go before its neighbour");
    await until(() => page.evaluate(() => document.activeElement.getAttribute("aria-selected") === "true"), "the focus stays with the move");
    await look("three");
    const wanted = [{}, { forward: 1.5 }, { vertical: 0.5, forward: 1.5, tilt: -5 }, { vertical: 1, forward: 1.5, tilt: -10 }, { vertical: 1, forward: 1.5, pan: 30, tilt: -10 }];
    let sent = posted(page, "clips");
    await page.locator(".make .primary").click();
    const body = await sent;
    equal(JSON.stringify(body.camera_path), JSON.stringify(wanted), "the path that was sent");
    equal(body.camera, undefined, "a path has no move beside it");
    await until(() => page.locator(".tile[data-clip]:not(.bad)").count(), "the clip was not made", 20_000);
    // Another camera, and the settings again.
    const still = posted(page, "plan");
    await page.locator('input[name="choice-camera-kind"][value="move"]').check({ force: true });
    equal((await still).camera_path, undefined, "one move is no path");
    await page.locator(".tile[data-clip] .tile-open").first().click();
    await page.locator(".facts-list").getByText(name.endsWith("zh") ? "3 段路径" : "a path of 3 moves").waitFor();
    const planned = posted(page, "plan");
    await page.locator(".viewer-actions .primary").click();
    equal(JSON.stringify((await planned).camera_path), JSON.stringify(wanted), "the path of the settings");
    equal(await tabs.count(), 3, "the moves of the settings");
    await tabs.nth(1).focus();
    await page.keyboard.press("Delete");
    await until(async () => (await tabs.count()) === 2, "the move was not removed");
    // What the server does not take stands at the camera.
    await page.locator("#path-zoom").fill("2");
    for (let n = 0; n < 3; n += 1) {
      await page.locator(".band-add").click();
      await page.locator("#path-zoom").fill("2");
    }
    await page.locator("#field-camera-error").waitFor();
    await look("error");
    await close();
  }
}

/** Moves become poses and come back as they were, but for two alike in a row, which are one that takes longer. */
async function pathsComeBack() {
  for (let round = 0; round < 300; round += 1) {
    const moves = Array.from({ length: 1 + (round % 6) }, () => newMove({ share: 1 + Math.floor(3 * Math.random()), ...Object.fromEntries(PARTS.map((part) => [part, Math.random() < 0.5 ? 0 : Math.round(40 * Math.random() - 20) / (part === "zoom" ? 20 : 4)])) }));
    const poses = pathOf(moves);
    equal(poses.length, 1 + moves.reduce((sum, move) => sum + move.share, 0), "the number of poses");
    const back = movesOf(poses);
    equal(JSON.stringify(pathOf(back).map((pose) => PARTS.map((part) => Math.round(100 * (pose[part] ?? 0))))), JSON.stringify(poses.map((pose) => PARTS.map((part) => Math.round(100 * (pose[part] ?? 0))))), `the poses of ${JSON.stringify(moves)}`);
    assert(back.length <= moves.length, "moves were split");
    const stops = stopsOf({ kind: "path", moves, poses: null });
    poses.forEach((pose, n) => equal(Math.round(1000 * placeAt(stops, n / (poses.length - 1)).forward), Math.round(1000 * (pose.forward ?? 0)), "the sketch is where the pose is"));
  }
}

/** A path of an API's client that is no path of a few moves is kept and drawn. */
async function pathGiven({ url, mock }) {
  await mock({ empty: true });
  const poses = Array.from({ length: 30 }, (_, n) => ({ horizontal: Math.round(1e3 * Math.sin(n / 4)) / 1e3, forward: n / 8, pan: n }));
  await fetch(`${url}api/clips`, { method: "POST", headers: { "content-type": "application/json", "x-kinora": "1" }, body: JSON.stringify({ prompt: "a long way", model: "studio-5b", camera_path: poses }) });
  const { page, close } = await open(url, WIDE);
  await page.locator(".tile[data-clip]:not(.bad) .tile-open").first().click({ timeout: 20_000 });
  const planned = posted(page, "plan");
  await page.locator(".viewer-actions .primary").click();
  equal(JSON.stringify((await planned).camera_path), JSON.stringify(poses), "the path as it was sent");
  await page.locator("#camera summary").click();
  await page.locator("#camera .sketch").scrollIntoViewIfNeeded();
  await accessible(page, "a path that was given");
  await page.waitForTimeout(400);
  await shot(page, "path-given");
  await page.getByRole("button", { name: "Start a new path" }).click();
  equal(await page.locator(".band-parts [role=tab]").count(), 2, "the moves of a new path");
  await close();
}

export const storyFlows = [["a story, from nothing to its settings again", story]];
export const storyStates = [
  ["a story with pictures, after a clip, changed while it waits", storyPictures],
  ["a camera path by keyboard, and its settings again", path],
  ["camera paths come back as the same moves", pathsComeBack],
  ["a camera path of another client", pathGiven],
];
