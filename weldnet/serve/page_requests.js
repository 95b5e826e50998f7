// Requests: at most two at once; a busy server is asked again after the time it requests; the key is asked for once.

import { find } from "./page_elements.js";

const MAX_AT_ONCE = 2;

const pause = (seconds) => new Promise((go) => setTimeout(go, 1000 * seconds));

const tasks = [];
let running = 0;
let key = null;
let asking = null;

export function enqueue(task) {
  tasks.push(task);
  startNext();
}

function startNext() {
  if (running >= MAX_AT_ONCE || !tasks.length) return;
  running += 1;
  tasks.shift()().finally(() => {
    running -= 1;
    startNext();
  });
}

function askForKey() {
  asking ??= new Promise((go, stop) => {
    const dialog = find("ask");
    find("asked").textContent = key === null ? "This server asks for a key." : "That is not this server's key.";
    find("key").value = dialog.returnValue = "";
    dialog.addEventListener(
      "close",
      () => {
        asking = null;
        if (dialog.returnValue !== "ok") return stop(new Error("this server asks for a key"));
        key = find("key").value;
        go();
      },
      { once: true },
    );
    dialog.showModal();
  });
  return asking;
}

export async function ask(path, file, content) {
  for (;;) {
    const used = key;
    // No header can hold other signs, and no key has them.
    if (used !== null && !/^[!-~]+$/.test(used)) {
      await askForKey();
      continue;
    }
    const options = { headers: used === null ? {} : { "X-API-Key": used } };
    if (file) {
      options.method = "POST";
      options.body = new FormData();
      options.body.append("files", file, file.name);
    }
    if (content) Object.assign(options, { method: "POST", body: JSON.stringify(content) });
    const answer = await fetch(path, options).catch(() => {
      throw new Error("the server does not answer");
    });
    if (answer.status === 401) {
      if (used === key) await askForKey();
    } else if (answer.status === 429) {
      await pause(Number(answer.headers.get("Retry-After")) || 1);
    } else return answer;
  }
}

export async function read(answer) {
  return answer.json().catch(() => ({ error: `the server answers with status ${answer.status}` }));
}
