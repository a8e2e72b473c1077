// A real Chromium, which notices everything that a page does wrong.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

export const base = process.env.BASE_URL ?? "http://localhost:8080";
const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** @type {import("playwright-core").Browser | undefined} */
let browser;

/**
 * A new browser profile with one page.
 * @param {import("playwright-core").BrowserContextOptions} [options]
 */
export async function visit(options = {}) {
  // Under root, Chromium has no sandbox.
  browser ??= await chromium.launch({ executablePath, args: process.getuid?.() === 0 ? ["--no-sandbox"] : [] });
  const context = await browser.newContext({ baseURL: base, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  /** @type {string[]} */
  const faults = [];
  page.on("pageerror", (error) => faults.push(`an exception: ${error.message}`));
  // Violations of the content policy are errors of the console, too.
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") faults.push(`in the console: ${message.text()}`);
  });
  page.on("request", (request) => {
    const { origin, host } = new URL(request.url());
    if (origin !== new URL(base).origin && host !== "images.openfoodfacts.org") faults.push(`a request to ${request.url()}`);
  });
  return {
    context,
    page,
    /** Ends the visit; fails if a page did something wrong. @param {RegExp} [expected] faults that belong to the story */
    async leave(expected) {
      await context.close();
      assert.deepEqual(faults.filter((fault) => !expected?.test(fault)), []);
    },
  };
}

export async function closeBrowser() {
  await browser?.close();
}

/**
 * Fails if axe finds anything serious.
 * @param {import("playwright-core").Page} page
 */
export async function assertAccessible(page) {
  // Evaluated by the debugger, which the content policy does not limit.
  await page.evaluate(axe);
  const found = await page.evaluate(async () => {
    // @ts-ignore: axe is there now.
    const { violations } = await window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] });
    return violations.map((/** @type {any} */ one) => `${one.impact}: ${one.help} at ${one.nodes.map((/** @type {any} */ node) => node.target).join(" | ")}`);
  });
  assert.deepEqual(found.filter((/** @type {string} */ one) => /^(serious|critical)/.test(one)), [], page.url());
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.ok(overflow <= 0, `${page.url()} is ${overflow} px too wide`);
}

let people = 0;

/**
 * Registers a new person with the form. They have one device.
 * @param {import("playwright-core").Page} page
 * @param {string} [next] where to go then
 */
export async function register(page, next = "/orders") {
  people += 1;
  const email = `person${people}.${Date.now()}@example.org`;
  await page.goto(`/register?next=${encodeURIComponent(next)}`);
  await page.getByLabel("First name").fill("Ada");
  await page.getByLabel("Last name").fill("Example");
  await page.getByLabel("E-mail address").fill(email);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("main").getByRole("button", { name: "Register" }).click();
  await page.waitForURL(`**${next}`);
  return email;
}

/**
 * Signs in somebody who is registered.
 * @param {import("playwright-core").Page} page
 * @param {string} email
 * @param {string} next where to go then
 */
export async function signIn(page, email, next) {
  await page.goto(`/sign-in?next=${encodeURIComponent(next)}`);
  await page.getByLabel("E-mail address").fill(email);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("main").getByRole("button", { name: "Sign in" }).click();
  await page.waitForURL(`**${next}`);
}

export const password = "correct horse battery";

/**
 * A request of a page to an API, with the cookie of its session.
 * @param {import("playwright-core").Page} page
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body]
 */
export async function api(page, method, path, body) {
  return page.evaluate(
    async ([method, path, body]) => {
      const headers = { "content-type": "application/json", "idempotency-key": crypto.randomUUID() };
      const response = await fetch(/** @type {string} */ (path), { method: /** @type {string} */ (method), headers, body: /** @type {string} */ (body) });
      const text = await response.text();
      return { status: response.status, body: text === "" ? undefined : JSON.parse(text) };
    },
    [method, path, body === undefined ? undefined : JSON.stringify(body)],
  );
}
