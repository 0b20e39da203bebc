// Build the page into built/: node build.mjs <slices.onnx> <about.json>. What it needs lies in classic scripts, since a page
// from disk may load nothing else.
import esbuild from "esbuild";
import fs from "node:fs";
import path from "node:path";

const [, , weights, about] = process.argv;
const out = "built";
fs.rmSync(out, { recursive: true, force: true });
fs.mkdirSync(out);
const common = { bundle: true, write: false, minify: true, format: "iife", target: "es2022", legalComments: "none", metafile: true, define: { "import.meta.url": '"http://localhost/page.js"' }, logLevel: "error" };
const worker = await esbuild.build({ ...common, entryPoints: ["src/worker.js"], conditions: ["import"] });
const page = await esbuild.build({ ...common, entryPoints: ["src/main.js"] });
const script = (name, text) => fs.writeFileSync(path.join(out, name), text);
script("worker.js", `self.WORKER_SOURCE = ${JSON.stringify(worker.outputFiles[0].text)};\n`);
script("page.js", page.outputFiles[0].text);
const wasm = "node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm";
script("wasm.js", `self.ORT_WASM = "${fs.readFileSync(wasm).toString("base64")}";\n`);
const model = { ...JSON.parse(fs.readFileSync(about, "utf8")), weights: fs.readFileSync(weights).toString("base64") };
script("model.js", `self.MODEL = ${JSON.stringify(model)};\n`);
fs.copyFileSync("index.html", path.join(out, "index.html"));

// Every package of which something is in the page, with its licence.
const inputs = [worker, page].flatMap(({ metafile }) => Object.keys(metafile.inputs));
const packages = new Set(inputs.map((file) => /(?:.*\/)?node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(file)?.[0]).filter(Boolean));
const licences = [...packages].sort().map((folder) => {
  const { name, version, license } = JSON.parse(fs.readFileSync(path.join(folder, "package.json"), "utf8"));
  const file = fs.readdirSync(folder).find((entry) => /^(licen[cs]e|copying)/i.test(entry));
  const text = file ? fs.readFileSync(path.join(folder, file), "utf8") : `(the package has no file of its licence, ${license})`;
  return `${name} ${version}: ${license}\n\n${text.trim()}\n`;
});
fs.writeFileSync(path.join(out, "licences.txt"), licences.join(`\n${"-".repeat(72)}\n\n`));
