// Follows server-sent events for elements: `data-follow` is the address of the stream, `data-events` the names of its events.
// Each element gets events `follow`, with the name and the data in `detail`; also `open` after each connection, because what
// happened before it is not among the events, and `lost`. A browser opens few connections to a host, so that only a page
// that somebody looks at has streams.

/** A browser that got an answer without a stream tries again after this time, in milliseconds. */
const PAUSE = 5_000;

/** The streams, by their addresses. @type {Map<string, {source: EventSource, timer: number}>} */
const streams = new Map();

const followers = () => /** @type {HTMLElement[]} */ ([...document.querySelectorAll("[data-follow]")]);

/** @param {string} url @param {string} name @param {string} [data] */
function tell(url, name, data) {
  for (const element of followers()) {
    if (element.dataset.follow === url) element.dispatchEvent(new CustomEvent("follow", { detail: { name, data } }));
  }
}

/** @param {string} url */
function close(url) {
  const stream = streams.get(url);
  clearTimeout(stream?.timer);
  stream?.source.close();
  streams.delete(url);
}

/** @param {string} url @param {string[]} names */
function open(url, names) {
  const stream = { source: new EventSource(url), timer: 0 };
  streams.set(url, stream);
  for (const name of names) stream.source.addEventListener(name, (event) => tell(url, name, event.data));
  stream.source.addEventListener("open", () => tell(url, "open"));
  stream.source.addEventListener("error", () => {
    tell(url, "lost");
    // After an answer that is no stream, a browser does not try again by itself.
    if (stream.source.readyState !== EventSource.CLOSED) return;
    stream.timer = window.setTimeout(() => {
      close(url);
      update();
    }, PAUSE);
  });
}

/** Opens and closes streams, so that there are those that elements want now. */
function update() {
  const wanted = new Map(followers().map((element) => [element.dataset.follow ?? "", element.dataset.events ?? ""]));
  if (document.hidden) wanted.clear();
  for (const url of [...streams.keys()]) if (!wanted.has(url)) close(url);
  for (const [url, events] of wanted) if (!streams.has(url)) open(url, ["resync", ...events.split(" ")]);
}

document.addEventListener("visibilitychange", update);
// A page that the browser keeps to go back to.
window.addEventListener("pagehide", () => [...streams.keys()].forEach(close));
window.addEventListener("pageshow", update);
document.addEventListener("htmx:afterSettle", update);
update();
