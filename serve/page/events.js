/** What the user saw and clicked, sent to /v1/events in the fields of User Behavior Insights (UBI). */

import { ask, storage } from "./server.js";

const SEND_AFTER_MS = 1000;
const RETRY_AFTER_MS = 15000;
const MOST_IN_A_REQUEST = 100; // About 30 kB: a browser sends at most 64 kB while a page closes.
const MOST_KEPT = 1000;
const PASSING = [0, 401, 403, 408, 429]; // No answer, another token is needed, or the server is busy.

let served = true;
let waiting = [];
let timer = null;
const [browser, tab] = [storage("localStorage"), storage("sessionStorage")];
const exposures = new WeakMap();

// A product counts as seen when half of it is on the screen.
const observer = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      observer.unobserve(target);
      add("exposure", exposures.get(target));
    }
  },
  { threshold: 0.5 },
);

/** Say whether the server keeps events; nothing is recorded where it does not. */
export function serveEvents(kept) {
  served &&= kept;
  if (!served) waiting = [];
}

/** Record an exposure of `hit` of `answer` at `rank`, counted from 1, once `shown` comes into view. */
export function watch(shown, answer, hit, rank) {
  exposures.set(shown, { answer, hit, rank });
  observer.observe(shown);
}

/** Record a click. */
export function clicked(answer, hit, rank) {
  add("click", { answer, hit, rank });
  send();
}

/** Stop watching what is no longer shown. */
export const unwatch = () => observer.disconnect();

function add(action, { answer, hit, rank }) {
  if (!served || !answer.query_id) return;
  waiting.push({
    event_id: uuid(),
    action_name: action,
    query_id: answer.query_id,
    timestamp: new Date().toISOString(),
    client_id: kept(browser, "raylevance.client"),
    session_id: kept(tab, "raylevance.session"),
    event_attributes: { object: { object_id: hit.product_id }, position: { ordinal: rank } },
  });
  waiting = waiting.slice(-MOST_KEPT);
  timer ??= setTimeout(send, SEND_AFTER_MS);
}

async function send() {
  clearTimeout(timer);
  timer = null;
  if (!served || !waiting.length) return;
  const events = waiting.splice(0, MOST_IN_A_REQUEST);
  try {
    await ask("v1/events", { events }, { keepalive: true });
  } catch (failure) {
    if (failure.notServed) {
      served = false;
      waiting = [];
    } else if (PASSING.includes(failure.status) || failure.status >= 500) {
      waiting = [...events, ...waiting].slice(-MOST_KEPT); // The ids stay, so an event that did arrive is kept once.
      timer ??= setTimeout(send, RETRY_AFTER_MS);
    } else {
      console.warn(`${events.length} events are lost: ${failure.message}`);
    }
    return;
  }
  if (waiting.length) send();
}

addEventListener("visibilitychange", () => document.visibilityState === "hidden" && send());

function kept(storage, name) {
  if (!storage.getItem(name)) storage.setItem(name, uuid());
  return storage.getItem(name);
}

/** A random UUID (version 4), also where the page came over plain HTTP and `crypto.randomUUID` does not exist. */
function uuid() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
