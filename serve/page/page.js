/** The search page: the address holds query and mode, and everything shown follows from the address. */

import { duration, plural } from "./dom.js";
import { clicked, serveEvents, unwatch, watch } from "./events.js";
import {
  categoryChips, columns, failed, hitList, MODES, nothingFound, shownBy, versionDetails, welcome,
} from "./hits.js";
import { installKeys } from "./keys.js";
import { fill, moreLike, serveItems, why } from "./panels.js";
import { ask, token } from "./server.js";

const SLOW_MS = 150; // Before this, a sign of waiting would only flicker.
const CATEGORIES_MS = 100; // Products wait so long for the categories above them, so that they seldom move.
const HITS = Number(document.body.dataset.hits);
const HITS_SIDE_BY_SIDE = Math.min(10, HITS);
const COMPARE = "compare";
const TITLE = document.title;

const [form, query, access, tokenField, results, status, categories, versions, help] = [
  "search", "query", "access", "token", "results", "status", "categories", "versions", "help",
].map((id) => document.getElementById(id));

let current = new AbortController();
let server = loadServer();
let classifies = true;
let classified = null; // The query whose categories are shown.

// ---- The address ----

function address() {
  const { searchParams } = new URL(location.href);
  const mode = searchParams.get("mode");
  return { text: (searchParams.get("q") ?? "").trim(), mode: mode in MODES || mode === COMPARE ? mode : "hybrid" };
}

function link(text, mode) {
  const parameters = new URLSearchParams({ ...(text && { q: text }), ...(mode !== "hybrid" && { mode }) });
  return parameters.size ? `?${parameters}` : "./";
}

function go(text, mode) {
  const target = new URL(link(text, mode), document.baseURI);
  if (target.href !== location.href) history.pushState(null, "", target);
  show();
}

// ---- A search ----

/** Show what the address asks for. A search that is still under way is given up: its answer never shows. */
async function show() {
  current.abort();
  const mine = (current = new AbortController());
  const { text, mode } = address();
  query.value = text;
  form.elements.mode.value = mode;
  document.title = text ? `${text} · ${TITLE}` : TITLE;
  if (!text) return present(welcome());

  const slow = setTimeout(() => wait(true), SLOW_MS);
  const started = performance.now();
  const categorised = classify(text, mine.signal);
  try {
    const answers = await search(text, mode, mine.signal);
    const elapsed = performance.now() - started;
    await Promise.race([categorised, new Promise((resolve) => setTimeout(resolve, CATEGORIES_MS))]);
    if (!mine.signal.aborted) presentAnswers(answers, text, mode, elapsed);
  } catch (failure) {
    if (!mine.signal.aborted) presentFailure(failure);
  } finally {
    clearTimeout(slow);
    if (mine === current) wait(false);
  }
}

/** The hits that were asked for at most, which a search must repeat to explain the answer. */
const asked = () => (address().mode === COMPARE ? HITS_SIDE_BY_SIDE : HITS);

async function search(text, mode, signal) {
  if (mode !== COMPARE) return [await ask("v1/search", { query: text, mode, k: asked() }, { signal })];
  const requests = Object.keys(MODES).map((each) => ({ query: text, mode: each, k: asked() }));
  return (await ask("v1/search/batch", { requests }, { signal })).answers;
}

async function classify(text, signal) {
  await server;
  if (!classifies || classified === text) return;
  try {
    const { tasks } = await ask("v1/classify", { query: text, k: 3 }, { signal });
    if (signal.aborted) return;
    classified = text;
    categories.replaceChildren(...categoryChips(tasks));
    categories.hidden = !categories.childElementCount;
  } catch (failure) {
    if (failure.notServed) classifies = false; // Any other failure shows in the search itself, or passes.
  }
}

// ---- What is shown ----

function present(content, text = "") {
  unwatch();
  results.replaceChildren(content);
  status.textContent = text;
  categories.hidden = classified !== address().text || !categories.childElementCount;
  document.body.classList.toggle("wide", content.matches(".columns"));
  wait(false);
}

function presentAnswers(answers, text, mode, elapsed) {
  const counted = Math.max(...answers.map(({ hits }) => hits.length));
  const took = `${duration(Math.max(...answers.map(({ took_ms }) => took_ms)))} on the server`;
  const summary = `${plural(counted, "product")}${mode === COMPARE ? " a list" : ""} · ${took}, ${duration(elapsed)} in all`;
  if (!counted) present(nothingFound(text, mode, (other) => go(text, other)), "No product found");
  else present(mode === COMPARE ? columns(answers) : hitList(answers[0]), summary);
  for (const item of results.querySelectorAll(".hit")) {
    const { answer, hit, rank } = shownBy.get(item);
    watch(item, answer, hit, rank);
  }
  noteVersions(answers[0].versions);
}

function presentFailure(failure) {
  if (failure.status === undefined) throw failure; // Not the server's: a fault of this page, for the console.
  if (failure.status === 401) return askForToken(failure.detail);
  present(failed(failure, show), "The search failed");
}

function wait(waiting) {
  document.getElementById("progress").hidden = !waiting;
  results.setAttribute("aria-busy", String(waiting));
  if (waiting) status.textContent = "Searching…";
}

// ---- Versions and tokens ----

/** Ask which versions answer. What the server does not have is not asked for later. */
async function loadServer() {
  try {
    const { loaded, refused = [], events = true, ...named } = await ask("v1/versions");
    serveEvents(events);
    presentVersions({ versions: named, loaded, refused });
    return { versions: named, loaded, refused };
  } catch (failure) {
    if (failure.status === 401) askForToken(failure.detail);
    return { versions: null, loaded: null, refused: [] };
  }
}

/** Show the versions that answered. Where they are others than before, ask since when, and what was refused. */
async function noteVersions(named) {
  let known = await server;
  if (JSON.stringify(known.versions) === JSON.stringify(named)) return;
  if (known.versions) known = await (server = loadServer());
  presentVersions({ ...known, versions: named });
}

function presentVersions({ versions: named, loaded, refused }) {
  if (!named) return;
  classifies = named.classifier !== null;
  serveItems(named.items !== null);
  const wasOpen = versions.querySelector("details")?.open ?? false;
  versions.replaceChildren(versionDetails(named, loaded, refused, wasOpen));
}

function askForToken(reason) {
  document.getElementById("access-reason").textContent = reason;
  if (!access.hidden) return; // It is being filled in.
  present(document.createElement("div"));
  categories.hidden = true;
  access.hidden = false;
  document.getElementById("forget").hidden = true;
  tokenField.value = "";
  tokenField.focus();
}

function useToken(event) {
  event.preventDefault();
  token.set(tokenField.value.trim());
  tokenField.value = "";
  access.hidden = true;
  document.getElementById("forget").hidden = false;
  query.focus();
  server = loadServer();
  show();
}

function forgetToken() {
  token.forget();
  location.reload();
}

// ---- Products ----

function act(event) {
  const button = event.target.closest("[data-action]");
  if (!button) return;
  const item = button.closest(".hit");
  const { answer, hit, rank } = shownBy.get(item);
  if (button.dataset.action === "open") clicked(answer, hit, rank);
  const name = button.dataset.action === "why" ? "why" : "more";
  if (item.dataset.open === name) return close(item);
  close(item);
  open(item, name, () => (name === "why" ? why(answer, hit, asked()) : moreLike(hit, searchFor)));
}

const searchFor = (text) => link(text, address().mode);

function open(item, name, content) {
  const panel = document.createElement("div");
  panel.className = "panel";
  item.append(panel);
  item.dataset.open = name;
  for (const button of item.querySelectorAll("[data-action]")) {
    button.setAttribute("aria-expanded", String((button.dataset.action === "why") === (name === "why")));
  }
  fill(panel, content);
}

function close(item) {
  item.querySelector(".panel")?.remove();
  delete item.dataset.open;
  for (const button of item.querySelectorAll("[data-action]")) button.setAttribute("aria-expanded", "false");
}

/** Mark the product under the pointer or the focus in all lists. */
function markSame(event) {
  const product = event.target.closest?.(".columns .hit")?.dataset.product;
  for (const item of results.querySelectorAll(".hit")) item.classList.toggle("same", item.dataset.product === product);
}

/** Follow links of this page without loading it again, unless they are to open elsewhere. */
function follow(event) {
  const anchor = event.target.closest("a[href]");
  if (!anchor || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  history.pushState(null, "", anchor.href);
  show();
  query.focus();
  scrollTo(0, 0);
}

function clear() {
  go("", address().mode);
  query.focus();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  go(query.value.trim(), form.elements.mode.value);
});
form.addEventListener("change", (event) => {
  if (event.target.name === "mode") go(query.value.trim(), event.target.value);
});
access.addEventListener("submit", useToken);
document.getElementById("forget").addEventListener("click", forgetToken);
document.getElementById("help-button").addEventListener("click", () => help.showModal());
document.addEventListener("click", follow);
results.addEventListener("click", act);
results.addEventListener("pointerover", markSame);
results.addEventListener("focusin", markSame);
addEventListener("popstate", show);

document.getElementById("forget").hidden = !token.get();
installKeys({ query, results, help, close, clear });
show();
