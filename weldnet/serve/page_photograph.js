// The photograph that is shown: its verdict and the reason, its probabilities, its heatmap.

import { find, make, percent, symbol, visible } from "./page_elements.js";
import { ask, enqueue, read } from "./page_requests.js";
import { showReview } from "./page_reviews.js";

export const VERDICTS = {
  accept: ["Accept", "accepted"],
  reject: ["Reject", "rejected"],
  refer: ["Refer to an inspector", "referred"],
  unread: ["No verdict", "without a verdict"],
  waiting: ["Waiting for a verdict", "waiting"],
};
const UNEXPLAINED = "An export has no heatmaps; serve the checkpoint.";

let shown = null;
let model = null;

export function describe({ result }) {
  const norm = model.vocabulary[result.predicted];
  return `${visible(result.predicted)}${norm ? ` (${norm})` : ""}, ${percent(result.probabilities[result.predicted])}`;
}

export function showPhotograph(entry, served) {
  [shown, model] = [entry, served];
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
  showReview(entry, model.classes ?? []);
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
  if (!above && !below) return "This model refers every photograph; the reasons are at the end of this page.";
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
  return `The photograph as it was sent; as the network sees it, in its own shape; and the heatmap for ${name}: bright = strong. It shows the region, not the spot.`;
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
  if (entry === shown) showHeatmap(entry);
}

find("explain").addEventListener("change", () => shown && showHeatmap(shown));
