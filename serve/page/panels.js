/** What opens below a product: why it ranks here, and products like it. */

import { element, fixed, path, percent } from "./dom.js";
import { failed } from "./hits.js";
import { ask } from "./server.js";

const SIMILAR = 6;
const HITS = Number(document.body.dataset.hits);
const explained = new WeakMap();
let itemsServed = true;

/** Say whether the server has a table of items, as its versions tell. */
export function serveItems(served) {
  itemsServed = served;
}

/** Why `hit` ranks where it does in `answer`. */
export async function why(answer, hit, k) {
  const [found, best] = await explanation(answer, hit, k);
  if (!found) return element("p", { class: "note" }, "The server now ranks other products; search again.");
  const { words, excluded, relevance } = found.explanation;
  return element("dl", { class: "why" },
    fact("Cosine", found.dense_score, found.dense_score, 3, "not computed in lexical mode"),
    fact("BM25", found.lexical_score, found.lexical_score / best, 2, "no word of the query found"),
    row("Words found", words.length ? words.map((word) => element("mark", {}, word)) : muted("none")),
    ...(excluded.length ? [row("Excluded words found", excluded.map((word) => element("strong", {}, word)))] : []),
    relevance === null
      ? row("Scorer", muted("this server has none"))
      : row("Scorer", bar(relevance), element("span", { class: "value" }, percent(relevance))),
  );
}

/** Return the explained hit, and the best BM25 score of its answer. An answer is explained once for all its hits. */
async function explanation(answer, hit, k) {
  if (!explained.has(answer)) {
    const request = ask("v1/search", { query: answer.query, mode: answer.mode, k, explain: true });
    explained.set(answer, request);
    request.catch(() => explained.delete(answer));
  }
  const { hits } = await explained.get(answer);
  const found = hits.find(({ product_id }) => product_id === hit.product_id);
  return [found?.explanation ? found : null, Math.max(...hits.map(({ lexical_score }) => lexical_score ?? 0))];
}

function fact(name, value, share, digits, absent) {
  if (value === null) return row(name, muted(absent));
  return row(name, bar(share), element("span", { class: "value" }, fixed(value, digits)));
}

const row = (name, ...values) => element("div", {}, element("dt", {}, name), element("dd", {}, values));
const muted = (text) => element("span", { class: "note" }, text);

function bar(share) {
  const made = element("span", { class: "bar", "aria-hidden": "true" });
  made.style.setProperty("--share", String(Math.min(1, Math.max(0, share))));
  return made;
}

/** Products like `hit`: from the table of items or, where it has none for this product, like its title. */
export async function moreLike(hit, link) {
  const [items, note] = (await recommended(hit)) ?? (await searched(hit));
  return [
    element("p", { class: "note" }, note),
    element("ul", { class: "similar", role: "list" }, items.map((item) => similar(item, link))),
  ];
}

async function recommended(hit) {
  if (!itemsServed) return null;
  try {
    const request = { triggers: [{ product_id: hit.product_id }], k: Math.min(SIMILAR, HITS) };
    const { items, unknown } = await ask("v1/recommend", request);
    if (unknown.length) return null;
    return [items, items.length ? "What shoppers choose next to it" : "The table of items has nothing like it."];
  } catch (failure) {
    if (!failure.notServed) throw failure;
    itemsServed = false;
    return null;
  }
}

async function searched(hit) {
  const reason = itemsServed ? "The table of items lacks this product" : "This server has no table of items";
  const query = [...hit.title].slice(0, 512).join("");
  const { hits } = await ask("v1/search", { query, mode: "dense", k: Math.min(SIMILAR + 1, HITS) });
  const others = hits.filter(({ product_id }) => product_id !== hit.product_id).slice(0, SIMILAR);
  return [others, `${reason}: a dense search for its title`];
}

function similar({ product_id, title, brand, category, score }, link) {
  const about = [brand, category?.at(-1)].filter(Boolean).join(" · ");
  return element("li", {},
    element("a", { href: link(title ?? product_id), title: category ? path(category) : null }, title ?? product_id),
    element("span", { class: "note" }, about),
    element("span", { class: "score" }, "score ", fixed(score, 3)),
  );
}

/** Fill `panel` with what `content` resolves to, or with its failure. */
export async function fill(panel, content) {
  const slow = setTimeout(() => panel.replaceChildren(element("p", { class: "note" }, "Loading…")), 150);
  try {
    panel.replaceChildren(...[await content()].flat());
  } catch (failure) {
    panel.replaceChildren(failed(failure, () => fill(panel, content)));
  } finally {
    clearTimeout(slow);
  }
}
