// The session: photographs that were added, each with its verdict, and the one that is selected.

import { setUpCamera } from "./page_camera.js";
import { find, make, symbol, visible } from "./page_elements.js";
import { VERDICTS, describe, showPhotograph } from "./page_photograph.js";
import { ask, enqueue, read } from "./page_requests.js";
import { setUpReviews } from "./page_reviews.js";

const MAX_HISTORY = 500;
const THUMBNAIL = 96;

const entries = [];
let selected = null;
let model = { vocabulary: {}, explains: null, limits: { max_body_mb: Infinity } };

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
  if (entry.review) words.append(make("span", "quiet", `Reviewed: ${visible(entry.review.label)}`));
  entry.button.replaceChildren(entry.canvas, symbol(entry.kind), words);
  find("session").hidden = false;
  countVerdicts();
  if (entry === selected) showPhotograph(entry, model);
}

function countVerdicts() {
  const count = (kind) => entries.filter((entry) => entry.kind === kind).length;
  const counted = Object.entries(VERDICTS).filter(([kind]) => count(kind));
  const counts = counted.map(([kind, [, word]]) => `${count(kind)} ${word}`);
  const reviewed = entries.filter((entry) => entry.review).length;
  find("counts").textContent = [...counts, ...(reviewed ? [`${reviewed} reviewed`] : [])].join(", ");
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
  showPhotograph(entry, model);
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
  if (selected) showPhotograph(selected, model);
}

for (const id of ["choose", "shoot"])
  find(id).addEventListener("change", ({ target }) => {
    add(target.files);
    target.value = "";
  });
find("history").addEventListener("keydown", move);
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
  draw,
);
setUpCamera(add, complain);
introduce().catch((error) => complain(`What the model is, is not known: ${error.message}`));
