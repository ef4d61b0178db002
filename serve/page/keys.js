/** The keys of the page, as its help lists them. */

const STEPS = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 };
const SIDEWAYS = { ArrowRight: 1, ArrowLeft: -1 };
const ACTIONS = { m: "more", w: "why" };

/** Handle keys: `query` is the search box, `close` closes what is open below a product, `clear` clears the search. */
export function installKeys({ query, results, help, close, clear }) {
  const titleOf = (item) => item?.querySelector(".title");
  const itemOf = (target) => target.closest(".hit");

  function step(target, by) {
    const item = itemOf(target);
    if (!item) return by > 0 ? titleOf(results.querySelector(".hit")) : null;
    const next = by > 0 ? item.nextElementSibling : item.previousElementSibling;
    return titleOf(next) ?? (by < 0 ? query : null);
  }

  function sideways(target, by) {
    const lists = [...results.querySelectorAll(".hits")];
    const item = itemOf(target);
    const list = lists[lists.indexOf(item?.parentElement) + by];
    if (!item || !list) return null;
    const rank = [...item.parentElement.children].indexOf(item);
    return titleOf(list.children[Math.min(rank, list.children.length - 1)]);
  }

  function focus(element) {
    if (!element) return false;
    element.focus();
    itemOf(element)?.scrollIntoView({ block: "nearest" });
    return true;
  }

  function escape(target) {
    const item = itemOf(target);
    if (!item?.dataset.open) return clear();
    close(item);
    titleOf(item).focus();
  }

  /** Do what `key` stands for; return whether it stands for anything here. */
  function handle(key, target) {
    const typing = target.matches("input:not([type=radio])");
    const arrow = key.startsWith("Arrow");
    if (key === "Escape") return target.id !== "token" && (escape(target), true);
    if (typing) return target === query && key === "ArrowDown" && focus(step(target, 1));
    if (arrow && target.matches("input")) return false; // Arrows choose among the modes.
    if (key in STEPS) return focus(step(target, STEPS[key]));
    if (key in SIDEWAYS) return focus(sideways(target, SIDEWAYS[key]));
    if (key in ACTIONS) return press(itemOf(target)?.querySelector(`[data-action=${ACTIONS[key]}]`));
    if (key === "/") return (query.focus(), query.select(), true);
    if (key === "?") return (help.showModal(), true);
    return false;
  }

  function press(button) {
    button?.click();
    return Boolean(button);
  }

  document.addEventListener("keydown", (event) => {
    const { key, target, ctrlKey, metaKey, altKey, isComposing } = event;
    if (ctrlKey || metaKey || altKey || isComposing || help.open || event.defaultPrevented) return;
    if (handle(key, target)) event.preventDefault();
  });
}
