// Flows that every server can answer: the mock, and a real one with its embedded model.
import { accessible, assert, drop, equal, fits, NARROW, open, picture, shot, until, WIDE } from "./helpers.mjs";

const MADE = 120_000; // milliseconds for a clip of a real server

/** How many clips the gallery shows, once the server has said which there are: before, grey tiles stand in their place. */
async function finished(page) {
  await page.locator('.gallery[aria-busy="false"]').waitFor();
  return page.locator(".tile[data-clip]:not(.bad)").count();
}

/** The longest list of tabs: the model that takes most. */
async function ableModel(page, tab) {
  const names = await page.locator("#field-model option").evaluateAll((all) => all.map((option) => option.value));
  for (const name of names) {
    await page.selectOption("#field-model", name);
    if (await page.locator(`#tab-${tab}`).count()) return name;
  }
  return null;
}

async function firstClip({ url, key, mock }) {
  await mock({ empty: true });
  const { page, close } = await open(url, { ...WIDE, key });
  const before = await finished(page);
  await page.locator(".chip").first().click();
  await page.locator(".make .primary").click();
  await until(() => page.locator(".queue [data-clip]").count(), "the clip did not appear in the queue");
  const box = await until(() => page.locator(".preview").first().boundingBox(), "no room for the preview");
  await until(() => page.locator(".running .progress-text").first().textContent(), "no progress");
  const later = await page.locator(".preview").first().boundingBox().catch(() => box);
  if (later) equal(later.height, box.height, "the preview changed its height");
  await until(async () => (await finished(page)) > before, "the clip was not made", MADE);
  await until(() => page.evaluate(() => document.querySelector("[data-said]").textContent.length > 0), "nothing was said to screen readers");
  await close();
}

async function byKeyboard({ url, key, mock }) {
  await mock({ empty: true });
  const { page, close } = await open(url, { ...WIDE, key });
  await page.locator("#prompt").waitFor();
  const before = await finished(page);
  await page.keyboard.press("Tab");
  equal(await page.evaluate(() => document.activeElement.className), "skip", "the first stop is the way to the prompt");
  await page.keyboard.press("Enter");
  await page.keyboard.type("a green ball moves left on a yellow background");
  let stops = 0;
  while ((await page.evaluate(() => document.activeElement.type)) !== "submit") {
    await page.keyboard.press("Tab");
    assert((stops += 1) < 40, "the button cannot be reached by Tab");
    const ring = await page.evaluate(() => {
      const here = document.activeElement;
      const seen = [here, here.closest("label")].filter(Boolean).map((one) => getComputedStyle(one).outlineStyle);
      return seen.some((style) => style !== "none") || here === document.body || here.matches("video");
    });
    assert(ring, `the focus cannot be seen on ${await page.evaluate(() => document.activeElement.outerHTML.slice(0, 120))}`);
  }
  await page.keyboard.press("Enter");
  await until(async () => (await finished(page)) > before, "the clip was not made", MADE);
  const tile = page.locator(".tile[data-clip]:not(.bad) .tile-open").first();
  await tile.focus();
  await page.keyboard.press("Enter");
  await page.locator("dialog[open] video").waitFor();
  for (let n = 0; n < 24; n += 1) {
    await page.keyboard.press("Tab");
    const inside = await page.evaluate(() => document.activeElement === document.body || Boolean(document.activeElement.closest("dialog")));
    assert(inside, "the focus left the dialog");
  }
  await page.keyboard.press("Escape");
  await until(async () => !(await page.locator("dialog[open]").count()), "Escape did not close the dialog");
  equal(await page.evaluate(() => document.activeElement.className), "tile-open", "the focus did not go back to the tile");
  await page.locator("#prompt").fill("");
  await page.locator("#prompt").press("ArrowUp");
  equal(await page.locator("#prompt").inputValue(), "a green ball moves left on a yellow background", "arrow up brings the last prompt back");
  await close();
}

async function planAndErrors({ url, key, mock }) {
  await mock({});
  const { page, close } = await open(url, { ...WIDE, key }, [400, 422]);
  await page.locator("[data-plan]").waitFor();
  const first = await page.locator("[data-plan]").textContent();
  await page.locator('.aspects label:has(input[value="9:16"])').click();
  await until(async () => (await page.locator("[data-plan]").textContent()) !== first, "the plan did not follow the aspect");
  await page.locator(".make .primary").click();
  await until(() => page.locator("#prompt-error").count(), "an empty prompt was not said");
  equal(await page.evaluate(() => document.activeElement.id), "prompt", "the focus did not go to the empty prompt");
  await page.fill("#prompt", "a red ball");
  equal(await page.locator("#prompt-error").count(), 0, "the error stayed after the prompt was written");
  await page.fill(".length-other", "9999");
  await until(() => page.locator("#field-seconds-error").count(), "the server's error did not appear at the length");
  await accessible(page, "an error at a field");
  await shot(page, "field-error");
  await page.fill(".length-other", "");
  await until(() => page.locator("[data-plan]").count(), "the plan did not come back");
  await page.getByRole("button", { name: "Keep this seed" }).click();
  assert(/^\d+$/.test(await page.locator("#field-seed").inputValue()), "a locked seed has a number");
  await close();
}

async function pictures({ url, key, mock }) {
  await mock({});
  const { page, close } = await open(url, { ...WIDE, key });
  await page.locator("#prompt").waitFor();
  if (!(await ableModel(page, "image"))) return close();
  await drop(page, ".gallery", await picture(page));
  await until(() => page.locator("#tab-image[aria-selected=true]").count(), "a dropped picture did not become the first frame");
  const shown = page.locator(".slot-media img");
  await until(async () => !(await page.locator(".slot-sending").count()) && (await shown.count()) === 1, "the upload did not end");
  const before = await shown.getAttribute("src");
  await drop(page, ".slot", await picture(page, "second.png", "#2f6f8f"));
  await until(async () => (await shown.getAttribute("src")) !== before, "a picture dropped on the slot did not replace the first one");
  await until(async () => !(await page.locator(".slot-sending").count()), "the second upload did not end");
  equal(await page.locator(".veil").count(), 0, "the veil stayed after the drop");
  await until(() => page.locator("[data-plan]").count(), "no plan with a picture");
  await accessible(page, "the image tab");
  await shot(page, "image-tab");
  await page.getByRole("button", { name: "Remove First frame" }).click();
  equal(await shown.count(), 0, "the slot was not emptied");
  await drop(page, ".gallery", { name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("x") });
  await until(() => page.locator(".message.error").count(), "a text file was not refused");
  await page.waitForTimeout(200);
  equal(await page.locator(".message.error").count(), 1, "an error stays until it is dismissed");
  await page.locator(".message.error button").click();
  await close();
}

async function galleryFlows({ url, key, mock }) {
  await mock({});
  const { page, close } = await open(url, { ...WIDE, key });
  await page.locator(".tile[data-clip]:not(.bad)").first().waitFor();
  const tile = page.locator(".tile[data-clip]:not(.bad)").first();
  await tile.hover();
  await until(() => tile.locator("video").count(), "the thumbnail does not play on hover");
  const star = tile.locator(".tile-star");
  const was = await star.getAttribute("aria-pressed");
  await star.click();
  await until(async () => (await star.getAttribute("aria-pressed")) !== was, "the star did not change");
  await tile.locator(".tile-open").click();
  const player = page.locator("dialog video");
  await until(() => player.evaluate((video) => video.readyState >= 2 && !video.error), "the clip does not play");
  await page.waitForTimeout(200);
  await accessible(page, "the viewer");
  await shot(page, "viewer");
  for (const [name, part] of [["Download", "video?download=1"], ["Recipe", "recipe"]]) {
    const href = await page.getByRole("link", { name }).getAttribute("href");
    assert(href.endsWith(part), `${name} goes to ${href}`);
    equal(await page.evaluate(async (to) => (await fetch(to)).status, href), 200, `the status of ${name}`);
  }
  const prompt = await page.locator(".viewer-prompt").textContent();
  await page.getByRole("button", { name: "Use these settings" }).click();
  equal(await page.locator("#prompt").inputValue(), prompt, "the prompt of the settings");
  assert(/^\d+$/.test(await page.locator("#field-seed").inputValue()), "the seed of the settings is locked");
  await page.fill(".search input", "no clip has these words");
  await page.getByText("No clip matches.").waitFor();
  await page.getByRole("button", { name: "Show all" }).click();
  await page.locator(".tile[data-clip]").first().waitFor();
  await close();
}

async function looks({ url, key, mock, real }) {
  for (const [width, size] of [[1280, WIDE], [390, NARROW]]) {
    for (const colorScheme of ["light", "dark"]) {
      for (const locale of ["en-US", "zh-CN"]) {
        await mock({ busy: true, still: true, limited: true });
        const { page, close } = await open(url, { ...size, colorScheme, locale, key });
        await page.locator("#prompt").waitFor();
        await until(() => page.locator("[data-plan]").count(), "no plan");
        if (!real) await page.locator(".preview img").waitFor();
        const name = `${width}-${colorScheme}-${locale.slice(0, 2)}`;
        equal(await page.locator("html").getAttribute("lang"), locale === "zh-CN" ? "zh-CN" : "en", "the page's language");
        const disclose = (open) => page.evaluate((value) => document.querySelectorAll("details").forEach((part) => (part.open = value)), open);
        await disclose(true);
        await accessible(page, name);
        await fits(page, name);
        await disclose(false);
        await page.evaluate(() => document.querySelector(".compose-body").scrollTo(0, 0));
        await shot(page, name);
        await page.locator(".gallery").scrollIntoViewIfNeeded();
        await page.waitForTimeout(300);
        await shot(page, `${name}-gallery`);
        await close();
      }
    }
  }
}

async function settingsKept({ url, key, mock }) {
  await mock({});
  const { page, check, close } = await open(url, { ...WIDE, key });
  await page.getByRole("button", { name: "Settings" }).click();
  equal(await page.getByRole("switch", { name: "Play a sound" }).isChecked(), false, "the sound is off at first");
  equal(await page.evaluate(() => window.asked), 0, "how often the page asked for notifications");
  await page.locator('label:has(input[value="zh"])').click();
  await page.getByText("提示词", { exact: true }).waitFor();
  await page.locator('label:has(input[value="dark"])').click();
  await accessible(page, "the settings");
  await shot(page, "settings-zh-dark");
  await page.getByRole("switch", { name: "播放提示音" }).focus();
  await page.keyboard.press("Space");
  await page.reload();
  await page.getByText("提示词", { exact: true }).waitFor();
  equal(await page.locator("html").getAttribute("data-theme"), "dark", "the theme after a reload");
  await check();
  await close();
}

async function secondTab({ url, key, mock }) {
  await mock({ empty: true, slow: true });
  const one = await open(url, { ...WIDE, key });
  const page2 = await one.context.newPage();
  await page2.goto(url);
  await page2.locator("#prompt").waitFor();
  await one.page.locator(".chip").first().click();
  await one.page.locator(".make .primary").click();
  const id = await until(() => one.page.locator(".queue [data-clip]").first().getAttribute("data-clip").catch(() => null), "no clip in the queue");
  await until(() => page2.locator(`[data-clip="${id}"]`).count(), "the second tab does not show the clip");
  await page2.reload();
  await until(() => page2.locator(`[data-clip="${id}"]`).count(), "after a reload the clip is not there");
  await one.close();
}

export const flows = [
  ["the first clip takes two clicks", firstClip],
  ["a clip by keyboard alone", byKeyboard],
  ["the plan follows, errors stand at their fields", planAndErrors],
  ["pictures are dropped and replaced", pictures],
  ["gallery, viewer, settings again", galleryFlows],
  ["settings are remembered", settingsKept],
  ["a second tab shows the same", secondTab],
  ["two languages, two widths, two themes", looks],
];
