// Opens pages in Debian's Chromium and looks at them: node report.cjs SCREENSHOTS PAGE… (see report.sh).
"use strict";
const fs = require("fs");
const path = require("path");
const puppeteer = require("puppeteer-core");

const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const views = [
  {name: "light", scheme: "light", width: 1280},
  {name: "dark", scheme: "dark", width: 1280},
  {name: "narrow", scheme: "light", width: 420},
];

async function look(browser, file, view, out) {
  const found = [];
  const page = await browser.newPage();
  page.on("console", (m) => found.push(`console ${m.type()}: ${m.text()}`));
  page.on("pageerror", (e) => found.push(`error: ${e.message}`));
  page.on("request", (r) => { if (!/^(file|data|about):/.test(r.url())) found.push(`asks the network for ${r.url()}`); });
  await page.setBypassCSP(true); // lets axe in; guarded opens the page without
  await page.emulateMediaFeatures([{name: "prefers-color-scheme", value: view.scheme}]);
  await page.setViewport({width: view.width, height: 900});
  await page.goto("file://" + path.resolve(file), {waitUntil: "load"});
  const drawn = await page.evaluate(() => ({
    charts: JSON.parse(document.getElementById("data").textContent).length,
    canvases: document.querySelectorAll(".chart canvas").length,
    wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  }));
  if (drawn.charts === 0 || drawn.canvases !== drawn.charts) found.push(`${drawn.canvases} of ${drawn.charts} charts are drawn`);
  if (drawn.wide > 0) found.push(`the page is ${drawn.wide} pixels wider than the window`);
  await page.evaluate(axe);
  const result = await page.evaluate(() => axe.run(document, {resultTypes: ["violations"]}));
  for (const v of result.violations) {
    found.push(`axe ${v.id} (${v.impact}): ${v.help}: ${v.nodes.map((n) => n.target.join(" ")).slice(0, 5).join("; ")}`);
  }
  await page.screenshot({path: path.join(out, `${path.basename(file, ".html")}-${view.name}.png`), fullPage: true});
  await page.close();
  return found;
}

// guarded opens the page under its own policy: a script that it does not allow would be in the console.
async function guarded(browser, file) {
  const found = [];
  const page = await browser.newPage();
  page.on("console", (m) => found.push(`console ${m.type()}: ${m.text()}`));
  page.on("pageerror", (e) => found.push(`error: ${e.message}`));
  await page.goto("file://" + path.resolve(file), {waitUntil: "load"});
  // All that a mouse can reach and open, a keyboard can too.
  const links = await page.evaluate(() => [...document.querySelectorAll("a[href^='#']")].filter((a) => !document.querySelector(a.hash)).length);
  if (links > 0) found.push(`${links} links lead nowhere`);
  const reached = new Set();
  const focusable = await page.evaluate(() => [...document.querySelectorAll("a[href], summary, [tabindex='0']")].filter((e) => e.checkVisibility()).length);
  for (let i = 0; i < focusable + 5; i++) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => {
      const e = document.activeElement;
      if (!e || e === document.body) return "";
      const s = getComputedStyle(e);
      return [...document.querySelectorAll("*")].indexOf(e) + (s.outlineStyle === "none" ? " unseen" : "");
    });
    if (at.endsWith(" unseen")) found.push(`focus is not seen on element ${at}`);
    if (at) reached.add(at);
  }
  if (reached.size < focusable) found.push(`the Tab key reaches ${reached.size} of ${focusable} places`);
  await page.close();
  return found;
}

(async () => {
  const [out, ...files] = process.argv.slice(2);
  fs.mkdirSync(out, {recursive: true});
  const browser = await puppeteer.launch({executablePath: process.env.CHROMIUM, args: ["--no-sandbox", "--disable-gpu", "--hide-scrollbars"]});
  let bad = 0;
  try {
    for (const file of files) {
      const name = path.basename(file, ".html");
      for (const f of await guarded(browser, file)) { bad++; console.log(`report: ${name}: ${f}`); }
      for (const view of views) {
        for (const f of await look(browser, file, view, out)) { bad++; console.log(`report: ${name}, ${view.name}: ${f}`); }
      }
    }
  } finally {
    await browser.close();
  }
  console.log(`report: ${files.length} pages in ${views.length} views in Chromium: ${bad ? bad + " faults" : "no fault"}`);
  process.exit(bad ? 1 : 0);
})();
