// Names of files and classes are others' words: they only ever become text.

import { setUpCamera } from "./page_camera.js";
import { ask, enqueue, read } from "./page_requests.js";
import { setUpReviews, showReview } from "./page_reviews.js";

const VERDICTS = {
  accept: ["Accept", "accepted"],
  reject: ["Reject", "rejected"],
  refer: ["Refer to an inspector", "referred"],
  unread: ["No verdict", "without a verdict"],
  waiting: ["Waiting for a verdict", "waiting"],
};
const UNEXPLAINED = "An export has no heatmaps; serve the checkpoint.";
const MAX_HISTORY = 500;
const THUMBNAIL = 96;

const find = (id) => document.getElementById(id);
const ENDS = { "0.0": ["0", "<0.1"], "100.0": ["100", ">99.9"] };
const percent = (share) => {
  const text = (100 * share).toFixed(1);
  return `${ENDS[text]?.[Number(share > 0 && share < 1)] ?? text}\u00a0%`;
};
// Marks that turn text round, or break lines, would make a name look like a different one; a number keeps its % on the line.
const visible = (text) =>
  text
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (mark) => `\\u${mark.codePointAt(0).toString(16).padStart(4, "0")}`)
    .replace(/(?<=\d) (?=%)/g, "\u00a0");

const entries = [];
let selected = null;
let model = { vocabulary: {}, explains: null, limits: { max_body_mb: Infinity } };

function make(tag, name, text) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text;
  return element;
}

function symbol(name) {
  const [svg, use] = ["svg", "use"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));
  use.setAttribute("href", `#${name}`);
  svg.setAttribute("class", name);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

// Photographs

async function predict(entry) {
  try {
    const limit = model.limits.max_body_mb;
    if (entry.file.size > 1e6 * limit) throw new Error(`the file has more than ${limit} MB, the most that is taken`);
    const answer = await ask("predict", entry.file);
    const response = await read(answer);
    // The first dialog for the key may have been left.
    if (answer.ok && model.explains === null) await introduce().then(() => complain("")).catch(() => {});
    const result = response.results?.[0];
    entry.error = result ? result.error : response.error;
    if (result && !result.error) Object.assign(entry, { result, kind: result.verdict, request: response.request_id });
    else Object.assign(entry, { kind: "unread", isLost: !result });
  } catch (error) {
    Object.assign(entry, { kind: "unread", error: error.message, isLost: true });
  }
  draw(entry);
  const words = entry.result ? describe(entry) : entry.error;
  find("status").textContent = `${visible(entry.file.name)}: ${VERDICTS[entry.kind][1]}. ${words}`;
}

function describe({ result }) {
  const norm = model.vocabulary[result.predicted];
  return `${visible(result.predicted)}${norm ? ` (${norm})` : ""}, ${percent(result.probabilities[result.predicted])}`;
}

function add(files) {
  const fresh = [...files].map((file) => ({ file, kind: "waiting" }));
  for (const entry of fresh) {
    entry.item = make("li");
    entry.button = make("button");
    entry.canvas = make("canvas");
    entry.button.type = "button";
    entry.button.addEventListener("click", () => select(entry));
    entry.item.append(entry.button);
    entries.push(entry);
    find("history").append(entry.item);
    draw(entry);
    drawThumbnail(entry);
    enqueue(() => predict(entry));
  }
  for (const old of entries.splice(0, Math.max(0, entries.length - MAX_HISTORY))) forget(old);
  if (!fresh.length) return;
  select(fresh[0]);
  if (matchMedia("(max-width: 41.99rem)").matches) find("detail").scrollIntoView();
}

function forget(entry) {
  URL.revokeObjectURL(entry.overlay);
  entry.item.remove();
}

async function drawThumbnail({ file, canvas }) {
  const whole = await createImageBitmap(file).catch(() => null);
  if (!whole) return;
  // What its square shows of it, however long the photograph is.
  const side = Math.min(whole.width, whole.height);
  const corner = [(whole.width - side) / 2, (whole.height - side) / 2].map(Math.floor);
  const image = await createImageBitmap(whole, ...corner, side, side, { resizeWidth: THUMBNAIL, resizeHeight: THUMBNAIL });
  whole.close();
  [canvas.width, canvas.height] = [image.width, image.height];
  canvas.getContext("bitmaprenderer").transferFromImageBitmap(image);
}

function draw(entry) {
  const words = make("span", "words");
  const name = make("span");
  name.append(make("bdi", "", visible(entry.file.name)));
  const short = VERDICTS[entry.kind][0];
  const text = entry.result ? `${short.split(" ")[0]}: ${visible(entry.result.predicted)}` : short;
  words.append(name, make("span", `quiet ${entry.kind}`, text));
  entry.button.replaceChildren(entry.canvas, symbol(entry.kind), words);
  find("session").hidden = false;
  countVerdicts();
  if (entry === selected) show(entry);
}

function countVerdicts() {
  const count = (kind) => entries.filter((entry) => entry.kind === kind).length;
  const counted = Object.entries(VERDICTS).filter(([kind]) => count(kind));
  find("counts").textContent = counted.map(([kind, [, word]]) => `${count(kind)} ${word}`).join(", ");
}

function select(entry) {
  const image = find("picture");
  if (selected?.button) selected.button.removeAttribute("aria-current");
  URL.revokeObjectURL(image.src);
  selected = entry;
  for (const one of entries) one.button.tabIndex = one === entry ? 0 : -1;
  entry.button.setAttribute("aria-current", "true");
  entry.button.scrollIntoView({ block: "nearest" });
  find("zoom").hidden = false;
  find("zoom").setAttribute("aria-pressed", "false");
  image.src = URL.createObjectURL(entry.file);
  image.alt = `photograph ${visible(entry.file.name)}`;
  show(entry);
}

function show(entry) {
  const { result } = entry;
  find("detail").hidden = false;
  find("verdict").className = entry.kind;
  find("verdict").replaceChildren(symbol(entry.kind), make("span", "", VERDICTS[entry.kind][0]));
  find("why").textContent = result ? giveReason(result) : entry.error ?? "";
  const isSure = result && result.verdict !== "refer";
  find("guess").textContent = result ? `${isSure ? "Most likely" : "The model's best guess:"} ${describe(entry)}.` : "";
  find("name").textContent = visible(entry.file.name);
  find("again").hidden = !entry.isLost;
  find("shares").hidden = !result;
  find("facts").textContent = result ? `SHA-256 ${result.sha256.slice(0, 12)}…, request ${entry.request}` : "";
  const shares = Object.entries(result?.probabilities ?? {}).sort((a, b) => b[1] - a[1]);
  find("bars").replaceChildren(...shares.map(([name, share]) => drawBar(name, share)));
  find("explains").hidden = !(result && model.explains);
  showReview(entry, model.classes ?? [], visible);
  showHeatmap(entry);
}

function giveReason({ verdict, unlike_training, damaged, probabilities }) {
  const faults = [
    damaged && "the file is damaged: part of the picture can be wrong or missing",
    unlike_training && "the photograph is unlike anything in training",
  ].filter(Boolean);
  if (faults.length) return `Whatever its probabilities, because ${faults.join(", and ")}.`;
  if (!model.point) return "";
  const [above, below] = [model.point.accept_above, model.point.reject_below].map((limit) => limit !== null && percent(limit));
  const share = model.point.good_classes.reduce((sum, name) => sum + (probabilities[name] ?? 0), 0);
  if (!above && !below) return "Because the model refers every photograph.";
  const misses = [above && `not above the limit of ${above}`, below && `not below that of ${below}`].filter(Boolean).join(" and ");
  const where = { accept: `above the limit of ${above}`, reject: `below the limit of ${below}` }[verdict] ?? misses;
  return `Sound: ${percent(share)}, ${where}.`;
}

function drawBar(name, share) {
  const [item, line, bar] = [make("li"), make("div", "line"), make("div", "bar")];
  line.append(make("bdi", "", visible(name)), make("span", "share", percent(share)));
  bar.style.width = `${100 * share}%`;
  item.append(line, bar);
  return item;
}

function showHeatmap(entry) {
  const isWanted = find("explain").checked && model.explains && Boolean(entry.result);
  const image = find("overlay");
  image.hidden = !(isWanted && entry.overlay);
  const cannot = entry.result && model.explains === false ? UNEXPLAINED : "";
  const wanted = entry.overlay ? caption(entry) : entry.trouble ?? "drawing the heatmap …";
  find("heatmap").textContent = isWanted ? wanted : cannot;
  if (!image.hidden) {
    image.src = entry.overlay;
    image.alt = caption(entry);
  } else if (isWanted && !entry.isDrawing) {
    entry.isDrawing = true;
    enqueue(() => explain(entry));
  }
}

function caption({ result, isBare }) {
  const name = visible(result.predicted);
  if (isBare) return `What the network sees, twice: no evidence for ${name} was found.`;
  return `The photograph as it was sent; as the network sees it, in its own shape; and the heatmap for ${name}: bright = strong. It tells the region, not the spot.`;
}

async function explain(entry) {
  try {
    const answer = await ask("explain", entry.file);
    if (answer.ok) {
      entry.isBare = answer.headers.get("X-Evidence") === "0";
      entry.overlay = URL.createObjectURL(await answer.blob());
    } else entry.trouble = (await read(answer)).error;
  } catch (error) {
    entry.trouble = error.message;
  }
  if (entry === selected) showHeatmap(entry);
}

// Keys and drops

function move(event) {
  const step = { ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
  if (step === undefined || !selected) return;
  event.preventDefault();
  const index = Math.min(entries.length - 1, Math.max(0, entries.indexOf(selected) + step));
  select(entries[index]);
  entries[index].button.focus();
}

function complain(words) {
  find("trouble").textContent = words;
  find("trouble").hidden = !words;
}

async function introduce() {
  const answer = await ask("model");
  if (!answer.ok) throw new Error((await read(answer)).error);
  model = await answer.json();
  find("model").textContent = `${visible(model.run)}, model ${model.digest.slice(0, 12)}, ${model.runtime}`;
  find("fit").textContent = visible(model.headline);
  find("rule").replaceChildren(...model.rule.map((sentence) => make("p", "", visible(sentence))));
  find("reasons").replaceChildren(...model.point.reasons.map((reason) => make("li", "", visible(reason))));
  if (selected) show(selected);
}

for (const id of ["choose", "shoot"])
  find(id).addEventListener("change", ({ target }) => {
    add(target.files);
    target.value = "";
  });
find("history").addEventListener("keydown", move);
find("explain").addEventListener("change", () => selected && showHeatmap(selected));
find("picture").addEventListener("error", () => (find("zoom").hidden = true));
find("again").addEventListener("click", () => {
  Object.assign(selected, { kind: "waiting", error: undefined, isLost: false });
  const entry = selected;
  draw(entry);
  enqueue(() => predict(entry));
});
for (const name of ["dragover", "dragleave", "drop"])
  document.addEventListener(name, (event) => {
    event.preventDefault();
    if (name !== "dragleave" || !event.relatedTarget) document.body.classList.toggle("dropping", name === "dragover");
    if (name === "drop") add(event.dataTransfer.files);
  });
find("zoom").addEventListener("click", ({ currentTarget }) => {
  currentTarget.setAttribute("aria-pressed", currentTarget.getAttribute("aria-pressed") !== "true");
});
setUpReviews(
  () => entries,
  () => selected,
  show,
);
setUpCamera(add, complain);
introduce().catch((error) => complain(`What the model is, is not known: ${error.message}`));
