// Build the page: node build.mjs <slices.onnx> <about.json> <look.json> <folder to write anew>. What it needs lies in classic
// scripts, since a page from disk may load nothing else.
import esbuild from "esbuild";
import fs from "node:fs";
import path from "node:path";

const [, , weights, about, look, out] = process.argv;
fs.rmSync(out, { recursive: true, force: true });
fs.mkdirSync(out);
const common = { bundle: true, write: false, minify: true, format: "iife", target: "es2022", legalComments: "none", define: { "import.meta.url": '"http://localhost/page.js"' }, logLevel: "error" };
const worker = await esbuild.build({ ...common, entryPoints: ["src/worker.js"], conditions: ["import"] });
const page = await esbuild.build({ ...common, entryPoints: ["src/main.js"] });
const script = (name, text) => fs.writeFileSync(path.join(out, name), text);
script("worker.js", `self.WORKER_SOURCE = ${JSON.stringify(worker.outputFiles[0].text)};\n`);
script("page.js", page.outputFiles[0].text);
const wasm = "node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm";
script("wasm.js", `self.ORT_WASM = "${fs.readFileSync(wasm).toString("base64")}";\n`);
const json = (file) => JSON.parse(fs.readFileSync(file, "utf8"));
const model = { ...json(about), ...json(look), weights: fs.readFileSync(weights).toString("base64") };
script("model.js", `self.MODEL = ${JSON.stringify(model)};\n`);
fs.copyFileSync("index.html", path.join(out, "index.html"));

// Every package that the page needs, with its licence: also those that another one holds in its own bundle.
const locked = Object.entries(json("package-lock.json").packages).filter(([folder, { dev, optional }]) => folder && !dev && !optional);
const licences = locked.map(([folder]) => {
  const { name, version, license } = json(path.join(folder, "package.json"));
  const file = fs.readdirSync(folder).find((entry) => /^(licen[cs]e|copying)/i.test(entry));
  const text = file ? fs.readFileSync(path.join(folder, file), "utf8") : `(the package has no file of its licence, ${license})`;
  return `${name} ${version}: ${license}\n\n${text.trim()}\n`;
});
fs.writeFileSync(path.join(out, "licences.txt"), licences.join(`\n${"-".repeat(72)}\n\n`));
