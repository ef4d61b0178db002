/** Elements and numbers. What the server sends is set as text, never as HTML. */

/** Make an element: `element("p", {class: "note", onclick: f}, "text", child)`. Null and false are left out. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/** Text that only a screen reader says. */
export const unseen = (text) => element("span", { class: "unseen" }, text);

export const fixed = (value, digits) =>
  value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

export const percent = (probability) => `${fixed(100 * probability, probability < 0.1 ? 1 : 0)}%`;

export const duration = (ms) => (ms < 1000 ? `${fixed(ms, ms < 10 ? 1 : 0)} ms` : `${fixed(ms / 1000, 1)} s`);

export const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

export const path = (levels) => levels.join(" › ");
