// The browser, a page that is watched for errors, and the checks that every page must pass.
import { readFileSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const SHOTS = fileURLToPath(new URL("./screenshots/", import.meta.url));
mkdirSync(SHOTS, { recursive: true });

export const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });

export const WIDE = { viewport: { width: 1280, height: 860 } };
export const NARROW = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };

export function assert(condition, text) {
  if (!condition) throw new Error(text);
}

export function equal(actual, expected, text) {
  assert(actual === expected, `${text}: ${JSON.stringify(actual)} instead of ${JSON.stringify(expected)}`);
}

/** Waits until something holds; what it is stands in the error. */
export async function until(check, text, most = 8000) {
  const end = Date.now() + most;
  let last;
  while (Date.now() < end) {
    last = await check();
    if (last) return last;
    await new Promise((resolve) => setTimeout(resolve, 60));
  }
  throw new Error(`${text} (waited ${most} ms, last seen: ${JSON.stringify(last)})`);
}

/** Opens the page. `allow` are HTTP statuses that the test itself provokes; the browser reports those to the console. */
export async function open(url, options = {}, allow = []) {
  const { key, ...rest } = options;
  const context = await browser.newContext({ locale: "en-US", ...rest });
  const page = await context.newPage();
  page.setDefaultTimeout(8000);
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(`page error: ${error.message}`));
  page.on("console", (entry) => {
    // With a key, the page is refused until it has signed in.
    const expected = [...allow, ...(key ? [401] : [])].some((status) => entry.text().includes(String(status)));
    if (["error", "warning"].includes(entry.type()) && !expected) wrong.push(`console: ${entry.text()} ${entry.location().url}`);
  });
  await page.addInitScript(() => {
    window.violations = [];
    window.asked = 0;
    if ("Notification" in window) Notification.requestPermission = async () => ((window.asked += 1), "denied");
    document.addEventListener("securitypolicyviolation", (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
  });
  await page.goto(url);
  if (key && (await until(() => page.locator("#key, #prompt").first().isVisible(), "neither the page nor the sign-in form came")) && (await page.locator("#key").count())) {
    await page.fill("#key", key);
    await page.keyboard.press("Enter");
  }
  const check = async () => {
    wrong.push(...(await page.evaluate(() => window.violations.splice(0))).map((text) => `CSP: ${text}`));
    assert(!wrong.length, wrong.join("\n"));
  };
  return { page, context, check, close: async () => (await check(), context.close()) };
}

/** Fails on serious and critical findings of axe-core. The policy forbids injected scripts, so it is run by the debugger's way. */
export async function accessible(page, name) {
  await page.evaluate(AXE);
  const found = await page.evaluate(async () => {
    await Promise.all(document.getAnimations().map((animation) => animation.playState === "running" && animation.effect.getTiming().iterations === 1 && animation.finished.catch(() => {})));
    const { violations } = await window.axe.run(document, { resultTypes: ["violations"] });
    return violations.filter(({ impact }) => impact === "serious" || impact === "critical").map(({ id, help, nodes }) => `${id}: ${help}\n    ${nodes.slice(0, 4).map((node) => `${node.target} ${node.any[0]?.message ?? ""}`).join("\n    ")}`);
  });
  assert(!found.length, `axe on ${name}:\n  ${found.join("\n  ")}`);
}

/** Nothing may be wider than the window, which would scroll sideways. */
export async function fits(page, name) {
  const [inner, outer] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
  assert(inner <= outer, `${name} is ${inner} px wide in a window of ${outer} px`);
}

export async function shot(page, name) {
  await page.screenshot({ path: `${SHOTS}${name}.png` });
}

/** A PNG of one colour, made by the browser. */
export async function picture(page, name = "first.png", colour = "#c8553d") {
  const data = await page.evaluate((fill) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [320, 192];
    const pen = canvas.getContext("2d");
    pen.fillStyle = fill;
    pen.fillRect(0, 0, 320, 192);
    return canvas.toDataURL("image/png").split(",")[1];
  }, colour);
  return { name, mimeType: "image/png", buffer: Buffer.from(data, "base64") };
}

/** Drops a file on an element as a user would: enter, over, drop. */
export async function drop(page, selector, file) {
  const transfer = await page.evaluateHandle(({ name, mimeType, data }) => {
    const list = new DataTransfer();
    list.items.add(new File([Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0))], name, { type: mimeType }));
    return list;
  }, { ...file, data: file.buffer.toString("base64") });
  for (const type of ["dragenter", "dragover", "drop"]) await page.dispatchEvent(selector, type, { dataTransfer: transfer });
}
