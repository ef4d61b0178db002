/** Requests to the server that the page came from, with the token where one is needed. */

const TOKEN = "raylevance.token";

/** A request that failed, in the words of the server's problem document (RFC 9457). */
export class Failure extends Error {
  constructor({ status, title, detail, code = null, request_id = null }) {
    super(detail);
    Object.assign(this, { status, title, detail, code, requestId: request_id });
  }

  /** Whether the server lacks the part that was asked for, or the route. */
  get notServed() {
    return this.status === 404 || this.status === 405;
  }
}

/** A storage of the browser, `localStorage` or `sessionStorage`, or one of this page alone where that is blocked. */
export function storage(name) {
  try {
    return window[name];
  } catch {
    const values = new Map();
    const [getItem, setItem] = [(key) => values.get(key) ?? null, (key, value) => values.set(key, value)];
    return { getItem, setItem, removeItem: (key) => values.delete(key) };
  }
}

const tab = storage("sessionStorage");

/** The token of this tab. */
export const token = {
  get: () => tab.getItem(TOKEN),
  set: (value) => tab.setItem(TOKEN, value),
  forget: () => tab.removeItem(TOKEN),
};

/** Return the JSON of a GET, or of a POST where there is a body. Throws `Failure`, or AbortError after an abort. */
export async function ask(route, body, { signal, keepalive = false } = {}) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  const method = body === undefined ? "GET" : "POST";
  let response, text;
  try {
    const options = { method, headers, signal, keepalive, cache: "no-store", body: JSON.stringify(body) };
    response = await fetch(new URL(route, document.baseURI), options);
    text = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure({ status: 0, title: "No answer", detail: "The server cannot be reached, or it closed the connection." });
  }
  const json = parse(text);
  if (response.ok && json !== null) return json;
  throw new Failure({
    status: response.status,
    title: json?.title ?? (response.ok ? "Unreadable answer" : response.statusText || `HTTP ${response.status}`),
    detail: json?.detail ?? `The server answered ${route} with status ${response.status} and no description.`,
    code: json?.code,
    request_id: json?.request_id ?? response.headers.get("X-Request-Id"),
  });
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
