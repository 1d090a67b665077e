// Opens the dashboard in Chromium and does what an operator does. Arguments: the modules, the address, the folder for the
// browser's files, and JSON of tokens. Prints a line of JSON when something is to be done outside, and waits for an answer.

import assert from "node:assert/strict";
import fs from "node:fs";
import { createRequire } from "node:module";
import readline from "node:readline";

const [modules, address, folder, given] = process.argv.slice(2);
const tokens = JSON.parse(given);
const require = createRequire(`${modules}/`);
const { chromium } = require(`${modules}/playwright-core`);
const axe = fs.readFileSync(`${modules}/axe-core/axe.min.js`, "utf8");
const pictures = process.env.GATEWAY_PICTURES;
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

const VIEWS = ["Overview", "Sources", "Bans", "Why", "Anomalies", "Alerts", "Upstreams", "Limits", "Certificates"];

/** Has the test do something. */
async function outside(what) {
  console.log(JSON.stringify(what));
  await lines.next();
}

process.env.TMPDIR = folder;
const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run"],
});
const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
context.setDefaultTimeout(60_000);
const page = await context.newPage();
const wrong = [];
page.on("pageerror", (error) => wrong.push(`error: ${error.stack}`));
page.on("request", (request) => {
  if (!request.url().startsWith(`${address}/`)) wrong.push(`asks elsewhere: ${request.url()}`);
});
page.on("console", (message) => {
  // Refused commands are told so by the browser.
  if (message.type() === "error" && !/status of 4\d\d/.test(message.text())) wrong.push(`console: ${message.text()}`);
});
await page.addInitScript(axe);
await page.addInitScript(() => {
  window.violations = [];
  window.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
});

/** Nothing breaks the policy, runs what clients sent, or is wrong for whoever cannot see it. */
async function judge(what) {
  // The test waits for a line, and no longer than a state may take.
  console.log(what);
  const found = await page.evaluate(async () => ({
    violations: window.violations,
    pwned: window.pwned,
    axe: (await window.axe.run()).violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html).join(" ")}`),
    wide: document.documentElement.scrollWidth > window.innerWidth,
  }));
  assert.deepEqual(found, { violations: [], pwned: undefined, axe: [], wide: false }, what);
  assert.deepEqual(wrong, [], what);
}

/** In light and dark, wide and narrow. */
async function judgeAll(what) {
  const sizes = [["light", 1280], ["dark", 1280], ["light", 400]];
  for (const [colorScheme, width] of sizes) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width, height: 900 });
    await judge(`${what}, ${colorScheme}, ${width}`);
    if (pictures) await page.screenshot({ path: `${pictures}/${what}-${colorScheme}-${width}.png`, fullPage: true });
  }
  await page.setViewportSize({ width: 1280, height: 900 });
}

const text = (selector) => page.locator(selector).innerText();

async function open(view) {
  await page.getByRole("navigation", { name: "Views" }).getByRole("link", { name: view, exact: true }).click();
  await page.getByRole("heading", { level: 1, name: view, exact: true }).waitFor();
  await page.getByText("Loading.", { exact: true }).waitFor({ state: "detached" });
}

/** Signs in by the keyboard alone. */
async function signIn(token) {
  await page.getByLabel("Token").focus();
  await page.keyboard.insertText(token);
  await page.keyboard.press("Enter");
}

/** Presses Tab until something of this name has the focus. */
async function tabTo(name, key = "Tab") {
  const names = [];
  for (let pressed = 0; pressed < 80; pressed += 1) {
    await page.keyboard.press(key);
    const focused = await page.evaluate(() => {
      const one = document.activeElement;
      const { outlineStyle, outlineWidth } = getComputedStyle(one);
      const label = one.labels?.[0]?.textContent;
      return { name: one.getAttribute("aria-label") ?? label ?? one.textContent, seen: outlineStyle !== "none" && outlineWidth !== "0px" };
    });
    names.push(focused.name);
    if (focused.name === name) return assert.ok(focused.seen, `the focus on ${name} is not seen`);
  }
  return assert.fail(`${name} cannot be reached: ${names}`);
}

async function wrongTokens() {
  await page.goto(`${address}/dashboard`);
  await page.getByLabel("Token").waitFor();
  await judgeAll("sign-in");
  await signIn("gwat_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
  await page.locator("#sign-in-why:not([hidden])").waitFor();
  assert.match(await text("#sign-in-why"), /token/);
  await page.getByLabel("Token").fill("");
  await signIn(tokens.blind);
  await page.getByText("This token has not the role view.").waitFor();
  await page.getByLabel("Token").fill("");
}

/** All views, with what clients have sent in them. */
async function views() {
  await signIn(tokens.lead);
  await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
  await page.getByText("Live", { exact: true }).waitFor();
  const told = [];
  for (const view of VIEWS) {
    await open(view);
    await judgeAll(view.toLowerCase());
    told.push(await text("main"));
  }
  const [, sources, , , anomalies, alerts, upstreams, limits] = told;
  shows(sources, "<img/src=x/onerror=window.pwned=1>", "10.0.0.66");
  shows(anomalies, "series are watched");
  shows(alerts, "rules");
  shows(upstreams, "127.0.0.1:9000");
  shows(limits, "per-address");
}

function shows(told, ...parts) {
  for (const part of parts) assert.ok(told.includes(part), `${part} is not in ${told}`);
}

/** The first points of the last hour have come meanwhile, or do now. */
async function charts() {
  await open("Overview");
  await page.getByRole("img", { name: /^Requests, .* all: now/ }).waitFor();
  await page.getByText("The same in numbers, by minute").click();
  await page.getByRole("table", { name: "Numbers of the last hour" }).waitFor();
  await judgeAll("charts");
  shows(await text("main"), "In the kernel", "forged token");
}

const dialog = () => page.getByRole("dialog");

/** Bans and unbans by the keyboard alone. */
async function byKeyboard() {
  await page.goto(`${address}/dashboard`);
  await page.getByLabel("Token").waitFor();
  await tabTo("Skip to content", "Shift+Tab");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  await signIn(tokens.lead);
  await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
  // The title has the focus; the links are before it.
  await tabTo("Bans", "Shift+Tab");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 1, name: "Bans", exact: true }).waitFor();
  await tabTo("Ban an address");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Ban", exact: true }).waitFor();
  await page.keyboard.insertText("127.0.0.1");
  await page.keyboard.press("Tab");
  await page.keyboard.insertText("by <b>hand</b>");
  await page.keyboard.press("Enter");
  await dialog().getByRole("alert").waitFor();
  await judge("a refused ban");
  await page.keyboard.press("Escape");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Ban an address");
  await page.keyboard.press("Enter");
  await page.keyboard.insertText("203.0.113.7");
  await page.keyboard.press("Tab");
  await page.keyboard.insertText("by <b>hand</b>");
  await page.keyboard.press("Enter");
  await page.getByRole("row", { name: /203\.0\.113\.7/ }).waitFor();
  assert.match(await text("#said"), /203\.0\.113\.7 is blocked/);
  await tabTo("Why 203.0.113.7");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "203.0.113.7 is blocked" }).waitFor();
  assert.ok((await text("main")).includes("by <b>hand</b>"));
  await tabTo("Unban 203.0.113.7");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Unban", exact: true }).waitFor();
  await tabTo("Unban");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "203.0.113.7 passes" }).waitFor();
}

/** What else there is to be done. */
async function actions() {
  await open("Bans");
  await page.getByRole("button", { name: "Ban an address" }).click();
  await dialog().getByLabel("Address or network").fill("203.0.113.8");
  await dialog().getByLabel("Reason").fill("to be confirmed");
  await dialog().getByLabel("Must be confirmed").selectOption("300");
  await judgeAll("dialog");
  await dialog().getByRole("button", { name: "Ban" }).click();
  await page.getByRole("button", { name: "Confirm the ban of 203.0.113.8" }).click();
  await dialog().getByRole("button", { name: "Confirm" }).click();
  await page.getByRole("button", { name: "Confirm the ban of 203.0.113.8" }).waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Allow an address" }).click();
  await dialog().getByLabel("Address or network").fill("203.0.113.9");
  await dialog().getByLabel("Reason").fill("ours");
  await dialog().getByRole("button", { name: "Allow" }).click();
  await page.getByRole("button", { name: "Remove 203.0.113.9 from the allowlist" }).click();
  await dialog().getByRole("button", { name: "Remove" }).click();
  await page.getByRole("button", { name: "Remove 203.0.113.9 from the allowlist" }).waitFor({ state: "detached" });
}

/** There are more bans than a page has. */
async function pages() {
  await outside({ do: "many" });
  await open("Overview");
  await open("Bans");
  const rows = () => page.getByRole("table", { name: "Bans" }).getByRole("row");
  assert.equal(await rows().count(), 51);
  await page.getByRole("button", { name: "Older" }).click();
  await page.getByText("Page 2").waitFor();
  assert.ok((await rows().count()) < 51);
  await page.getByLabel("Find an address, a reason or an actor").fill("number 7,");
  await page.getByRole("button", { name: "Find" }).click();
  await page.getByText("those with “number 7,”").waitFor();
  assert.equal(await rows().count(), 2);
  shows(await rows().nth(1).innerText(), "number 7, <img/src=x/onerror=window.pwned=1>\\u{202e}");
  await judgeAll("found");
}

/** A list of 100,000 addresses: the page does not grow with it, and finds any of them. */
async function manyListed() {
  await outside({ do: "list" });
  const size = () => page.evaluate(() => document.querySelectorAll("*").length);
  await open("Overview");
  await open("Bans");
  await page.getByRole("row", { name: /^many 100,000 enforce import/ }).waitFor();
  assert.ok((await page.getByRole("table", { name: "Bans" }).getByRole("row").count()) <= 51);
  assert.ok((await size()) < 3_000, `the page has ${await size()} elements`);
  await judgeAll("listed");
  await page.getByLabel("Find an address, a reason or an actor").fill("198.19.134.159");
  await page.getByRole("button", { name: "Find" }).click();
  await page.getByText("No ban has this.").waitFor();
  await judgeAll("not-found");
  await page.getByRole("link", { name: "Why 198.19.134.159" }).click();
  await page.getByRole("heading", { name: "198.19.134.159 is blocked" }).waitFor();
  shows(await text("main"), "feed:many");
  await judgeAll("why-listed");
  await page.goto(`${address}/dashboard#/why/10.0.0.66`);
  await page.getByRole("table", { name: "Last requests" }).waitFor();
  shows(await text("main"), "401");
  await judgeAll("why-profile");
  await page.goto(`${address}/dashboard#/why/10.0.0.2`);
  await page.getByText("Last principals").waitFor();
  shows(await text("main"), "<img/src=x/onerror=window.pwned=1>");
}

/** Whoever may only see is offered nothing else, and sees nothing once the token is revoked. */
async function watcher() {
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Stay signed in").check();
  await signIn(tokens.watcher);
  await open("Bans");
  await page.reload();
  await page.getByRole("table", { name: "Bans" }).waitFor();
  assert.equal(await page.getByRole("button", { name: /Ban|Allow|Unban/ }).count(), 0);
  await open("Overview");
  await page.getByText("Live", { exact: true }).waitFor();
  await outside({ do: "revoke" });
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  assert.equal(await text("#view"), "");
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  await judge("the end");
}

/** 100,000 bans in the store: a word that one of the oldest has is found, by a bounded number of questions. */
async function manyStored() {
  await page.goto("about:blank");
  await outside({ do: "stored" });
  await page.goto(`${address}/dashboard`);
  await page.getByLabel("Token").waitFor();
  await signIn(tokens.lead);
  await page.getByRole("heading", { level: 1, name: "Overview", exact: true }).waitFor();
  await open("Bans");
  await page.getByText(/^100,\d{3} bans in force/).waitFor();
  await page.getByLabel("Update this list automatically").uncheck();
  let asked = 0;
  page.on("request", (request) => { asked += request.url().endsWith("/v1/block_find") ? 1 : 0; });
  await page.getByLabel("Find an address, a reason or an actor").fill("A RARE word");
  await page.getByRole("button", { name: "Find" }).click();
  await page.getByText("those with “A RARE word”").waitFor();
  const rows = page.getByRole("table", { name: "Bans" }).getByRole("row");
  assert.equal(await rows.count(), 2);
  shows(await rows.nth(1).innerText(), "11.0.0.10");
  assert.ok(asked > 0 && asked <= 40, `${asked} questions`);
  await judgeAll("found-stored");
}

await wrongTokens();
await views();
await byKeyboard();
await actions();
await pages();
await manyListed();
await charts();
await watcher();
await manyStored();
await browser.close();
console.log(JSON.stringify({ do: "nothing" }));
process.exit(0);
