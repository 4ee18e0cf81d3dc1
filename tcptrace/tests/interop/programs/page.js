// Opens a report in a browser as a reader does, from disk: light, dark and on paper. Fails if anything is requested beyond the
// file, if the console says anything, or if axe finds that somebody cannot use it.
//
//   node page.js REPORT.html FOLDER-FOR-PICTURES
//
// NODE_PATH has puppeteer-core and axe-core, CHROMIUM the browser.
const fs = require("fs");
const path = require("path");
const { pathToFileURL } = require("url");
const puppeteer = require("puppeteer-core");
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const [file, pictures] = process.argv.slice(2);
const address = pathToFileURL(path.resolve(file)).href;
const problems = [];

async function look(browser, scheme, width) {
  const page = await browser.newPage();
  await page.setViewport({ width, height: 900 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  page.on("request", (request) => {
    if (request.url().split("#")[0] !== address) problems.push(`${scheme}: requests ${request.url()}`);
  });
  page.on("console", (message) => problems.push(`${scheme}: console: ${message.text()}`));
  page.on("pageerror", (error) => problems.push(`${scheme}: ${error}`));
  await page.goto(address);
  // The page forbids scripts: axe runs beside it, in a world of its own.
  const client = await page.createCDPSession();
  const { frameTree } = await client.send("Page.getFrameTree");
  const { executionContextId } = await client.send("Page.createIsolatedWorld", { frameId: frameTree.frame.id });
  await client.send("Runtime.evaluate", { contextId: executionContextId, expression: axe });
  const { result, exceptionDetails } = await client.send("Runtime.evaluate", {
    contextId: executionContextId,
    awaitPromise: true,
    returnByValue: true,
    expression: `axe.run(document).then(r => ({
      passes: r.passes.length,
      violations: r.violations.map(v => v.id + ": " + v.help + ": " + v.nodes.slice(0, 3).map(n => n.html.slice(0, 160)).join(" | "))
    }))`,
  });
  if (exceptionDetails) throw new Error(JSON.stringify(exceptionDetails));
  const { passes, violations } = result.value;
  if (passes < 15) problems.push(`${scheme}: axe checked only ${passes} rules`);
  violations.forEach((violation) => problems.push(`${scheme}: axe: ${violation}`));
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  if (wide > 0) problems.push(`${scheme}: ${wide} pixels too wide for ${width}`);
  await page.screenshot({ path: path.join(pictures, `${scheme}-${width}.png`), fullPage: true });
  const { size } = fs.statSync(path.join(pictures, `${scheme}-${width}.png`));
  if (size < 20000) problems.push(`${scheme}: the picture has ${size} bytes`);
  const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  console.log(`${scheme} at ${width}: ${passes} rules of axe hold, background ${background}`);
  if (scheme === "light" && width > 1000) {
    await page.pdf({ path: path.join(pictures, "paper.pdf"), format: "A4" });
    const pdf = fs.statSync(path.join(pictures, "paper.pdf")).size;
    if (pdf < 10000) problems.push(`paper: the PDF has ${pdf} bytes`);
  }
  await page.close();
  return background;
}

(async () => {
  const browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu"],
  });
  const light = await look(browser, "light", 1200);
  const dark = await look(browser, "dark", 1200);
  if (light === dark) problems.push("light and dark look the same");
  await look(browser, "light", 400);
  await browser.close();
  problems.forEach((problem) => console.error(problem));
  process.exit(problems.length ? 1 : 0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
