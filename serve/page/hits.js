/** Lists of products, and what stands in their place. */

import { element, fixed, duration, path, percent, plural, unseen } from "./dom.js";

export const MODES = { hybrid: "Hybrid", dense: "Dense", lexical: "Lexical" };
const GRADES = { 2: ["relevant", "Relevant"], 1: ["moderate", "Moderately relevant"], 0: ["not", "Not relevant"] };
const NO_GRADE = ["none", "No grade"];

export const score = (value, mode) => fixed(value, mode === "lexical" ? 2 : 3);

/** What a list item stands for: its answer, its hit, and its rank from 1. */
export const shownBy = new WeakMap();

/** The list of an answer's hits. `others` are answers of other modes to the same query, whose ranks are shown too. */
export function hitList(answer, others = []) {
  return element(
    "ol",
    { class: "hits", role: "list", "data-mode": answer.mode },
    answer.hits.map((hit, index) => hitItem(answer, hit, index + 1, others)),
  );
}

function hitItem(answer, hit, rank, others) {
  const [grade, label] = GRADES[hit.grade] ?? NO_GRADE;
  const about = [hit.brand, hit.category?.length ? path(hit.category) : null].filter(Boolean);
  const item = element(
    "li",
    { class: `hit grade-${grade}`, "data-product": hit.product_id },
    element("span", { class: "rank", "aria-hidden": "true" }, String(rank)),
    element("div", { class: "what" },
      element(others.length ? "h3" : "h2", {}, action("open", hit.title || hit.product_id, "title")),
      element("p", { class: "about" }, about.map((text) => element("span", {}, text))),
    ),
    element("p", { class: "measure" },
      element("span", { class: "grade" }, label),
      element("span", { class: "score" }, "score ", score(hit.score, answer.mode)),
    ),
    others.length > 0 && element("p", { class: "elsewhere" }, others.map((other) => rankIn(other, hit))),
    element("p", { class: "actions" }, action("why", "Why here"), action("more", "More like this")),
  );
  shownBy.set(item, { answer, hit, rank });
  return item;
}

function action(name, label, style = "link") {
  return element("button", { type: "button", class: style, "data-action": name, "aria-expanded": "false" }, label);
}

function rankIn(answer, hit) {
  const rank = 1 + answer.hits.findIndex(({ product_id }) => product_id === hit.product_id);
  const text = rank ? `rank ${rank}` : `not in the first ${answer.hits.length}`;
  const shown = element("span", { "aria-hidden": "true" }, `${MODES[answer.mode]} `, element("b", {}, rank || "–"));
  return element("span", { class: rank ? "" : "absent" }, shown, unseen(`${MODES[answer.mode]}: ${text}. `));
}

/** The lists of several answers to one query, side by side. */
export function columns(answers) {
  return element(
    "div",
    { class: "columns" },
    answers.map((answer) =>
      element("section", { "aria-label": MODES[answer.mode] },
        element("h2", {}, MODES[answer.mode], element("span", { class: "note" }, duration(answer.took_ms))),
        answer.hits.length
          ? hitList(answer, answers.filter((other) => other !== answer))
          : element("p", { class: "notice" }, "No product found."),
      ),
    ),
  );
}

/** Before the first search. */
export function welcome() {
  return element("div", { class: "notice" },
    element("p", { class: "lead" }, "Search the catalogue"),
    element("p", {}, "Each product comes with a grade, its score, and why it ranks where it does."),
  );
}

/** A search without hits; `tryMode` searches in another mode. */
export function nothingFound(query, mode, tryMode) {
  const hint =
    mode === "lexical"
      ? "Lexical search finds only products with a word of the query. Dense search compares meanings."
      : "Try fewer or more common words.";
  return element("div", { class: "notice" },
    element("p", { class: "lead" }, `No product found for “${query}”`),
    element("p", {}, hint),
    mode === "lexical" && element("button", { type: "button", onclick: () => tryMode("dense") }, "Search in dense mode"),
  );
}

/** A failed request, in the server's words; `retry` sends it again. */
export function failed(failure, retry) {
  return element("div", { class: "notice failure", role: "alert" },
    element("p", { class: "lead" }, failure.title),
    element("p", {}, failure.detail),
    failure.requestId && element("p", { class: "note" }, "Request ", element("code", {}, failure.requestId)),
    retry && element("button", { type: "button", onclick: retry }, "Try again"),
  );
}

/** The predicted categories of a query, one row for each task that has any. */
export function categoryChips(tasks) {
  const found = Object.entries(tasks).filter(([, labels]) => labels.length);
  return found.map(([task, labels]) =>
    element("p", {},
      element("span", { class: "task" }, found.length > 1 ? task : "Predicted"),
      labels.map(({ label, path: levels, probability }) =>
        element("span", { class: "chip", title: label },
          levels.length ? path(levels) : label, " ", element("b", {}, percent(probability)),
        ),
      ),
    ),
  );
}

const PARTS = ["index", "encoder", "tables", "classifier", "scorer", "items", "bundle"];

/** The artifacts that answered, and the bundles that the server refused. */
export function versionDetails(versions, loaded, refused, wasOpen) {
  const rows = PARTS.filter((part) => versions[part]).map((part) =>
    element("div", {}, element("dt", {}, part), element("dd", {}, versions[part])),
  );
  const refusals = refused.map(({ bundle, reason, time }) =>
    element("p", { class: "refused" }, element("b", {}, `${bundle} was refused`), ` ${when(time)}: ${reason}`),
  );
  return element("details", { open: wasOpen },
    element("summary", {},
      "Answered by ", element("code", {}, versions.bundle ?? versions.index), ` · raylevance ${versions.raylevance}`,
      refused.length > 0 && element("span", { class: "warning" }, `${plural(refused.length, "bundle")} refused`),
    ),
    element("dl", {}, rows, loaded && element("div", {}, element("dt", {}, "since"), element("dd", {}, when(loaded)))),
    refusals,
  );
}

const when = (time) => new Date(time).toLocaleString();
