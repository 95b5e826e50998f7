// What a person decides on a verdict, and the session as a file.

import { find, visible } from "./page_elements.js";
import { ask, read } from "./page_requests.js";

const COLUMNS = [
  ...["file", "verdict", "predicted", "probability", "unlike_training", "damaged", "error", "sha256", "time"],
  ...["request_id", "agree", "label", "name", "remark"],
];

function flatten({ file, result, error, request, review }) {
  const { predicted, probabilities } = result ?? {};
  const own = { ...result, file: file.name, error, request_id: request, probability: probabilities?.[predicted] };
  return { ...own, ...review };
}

function cell(value) {
  const text = String(value ?? "");
  // A spreadsheet would compute what begins so.
  return `"${(/^[=+\-@\t\r]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
}

function save(entries) {
  const rows = entries.map(flatten).map((row) => COLUMNS.map((name) => cell(row[name])).join(","));
  const link = document.createElement("a");
  // With the mark by which Excel recognises UTF-8.
  link.href = URL.createObjectURL(new Blob(["\ufeff", [COLUMNS.join(","), ...rows].join("\r\n")], { type: "text/csv" }));
  link.download = `weldnet_${new Date().toISOString().slice(0, 19).replace(/[:T]/g, "-")}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// A photograph that is referred has no verdict to agree with: the class that was guessed stands in for it.
const isReferred = ({ result }) => result.verdict === "refer";

async function send(entry, button, label) {
  const agree = isReferred(entry) ? label === entry.result.predicted : button === "agree";
  const [name, remark] = [find("reviewer").value.trim(), find("remark").value.trim()];
  const review = { agree, label, name, remark };
  const content = { ...review, request_id: entry.request, file: entry.result.file };
  try {
    const answer = await ask("reviews", null, content);
    if (!answer.ok) throw new Error((await read(answer)).error);
    Object.assign(entry, { review, refusal: "" });
  } catch (error) {
    entry.refusal = `Not recorded: ${error.message}`;
  }
}

function describe(entry) {
  const { review } = entry;
  if (isReferred(entry)) return `Recorded by ${review.name}: ${visible(review.label)}.`;
  return `Recorded: ${review.name} ${review.agree ? "agrees" : "overrules the verdict"}.`;
}

export function showReview(entry, classes) {
  find("review").hidden = !entry.result;
  if (!entry.result) return;
  const { review, refusal } = entry;
  const options = classes.map((name) => new Option(visible(name), name));
  find("label").replaceChildren(...options);
  find("label").value = review?.label ?? entry.result.predicted;
  find("remark").value = review?.remark ?? "";
  const [agree, overrule] = find("review").querySelectorAll("button");
  agree.textContent = isReferred(entry) ? "Record this class" : "Agree with the verdict";
  overrule.hidden = isReferred(entry);
  find("reviewed").textContent = refusal || (review ? describe(entry) : "");
}

export function setUpReviews(getEntries, getSelected, draw) {
  find("save").addEventListener("click", () => save(getEntries()));
  // Not by submission: Enter in a field would press the first button.
  for (const button of find("review").querySelectorAll("button"))
    button.addEventListener("click", async () => {
      if (!find("review").reportValidity()) return;
      const entry = getSelected();
      await send(entry, button.value, find("label").value);
      draw(entry);
    });
}
