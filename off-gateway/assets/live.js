// Keeps the picture of the system up to date: numbers, charts, and a dot for what moves from stage to stage.

/**
 * @typedef {{p50: number, p99: number, orders: number}} TimeToStatus
 * @typedef {{at: number, events: Record<string, number>}} Second
 * @typedef {{at: number, times: Record<string, TimeToStatus>}} Period
 * @typedef {{seconds: Second[], times: Period[]}} History
 * @typedef {{subject: string, at: string, barcode?: string, quantity?: number, name?: string, total?: {amount: number, currency: string}}} LiveEvent
 * @typedef {{name: string, waiting: number, unacknowledged: number, redelivered: number}} Consumer
 * @typedef {{name: string, status: string, warnings: number}} Service
 * @typedef {{at: string, speed: number, orders?: Record<string, number>, per_second: Record<string, number>,
 *   last_second: Second, last_period: Period, times: Record<string, TimeToStatus>, consumers: Consumer[], outboxes: Record<string, number>, dead_letters?: number,
 *   faults: string[], services: Service[], events: LiveEvent[]}} State
 */

const SECONDS = 300;
const RATES = [
  { subject: "orders.pending", color: "--series-1" },
  { subject: "orders.completed", color: "--series-2" },
  { subject: "orders.refused", color: "--series-3" },
];
const TIMES = [
  { status: "paid", color: "--series-1" },
  { status: "shipped", color: "--series-2" },
  { status: "completed", color: "--series-3" },
];

const numbers = new Intl.NumberFormat("en", { useGrouping: true });
const isCalm = matchMedia("(prefers-reduced-motion: reduce)");

/** @param {string} id */
const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** A text of the template, for a script. @param {string} id @param {string} name */
const textOf = (id, name) => byId(id).dataset[name] ?? "";

/** The name of a series of a chart. @param {string} id @param {number} index */
const seriesOf = (id, index) => textOf(id, "series").split(", ")[index] ?? "";

/** @param {Element | null} element @param {string} text */
function setText(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

/** @param {number} millis */
function duration(millis) {
  if (millis < 1000) return `${millis} ms`;
  if (millis < 60_000) return `${(millis / 1000).toFixed(1)} s`;
  if (millis < 3_600_000) return `${Math.floor(millis / 60_000)} min ${Math.floor((millis % 60_000) / 1000)} s`;
  return `${Math.floor(millis / 3_600_000)} h ${Math.floor((millis % 3_600_000) / 60_000)} min`;
}

/** @param {string} name */
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/**
 * @param {HTMLElement} place
 * @param {{label: string, color: string, dash?: number[]}[]} series
 * @param {number} height
 * @param {(value: number) => string} format
 */
function chart(place, series, height, format) {
  const axis = () => ({ stroke: () => color("--muted"), grid: { stroke: () => color("--line"), width: 1 }, ticks: { show: false } });
  const options = {
    width: Math.max(place.clientWidth, 240),
    height,
    cursor: { drag: { x: false, y: false } },
    legend: { live: true },
    scales: { y: { range: (/** @type {unknown} */ _, /** @type {number} */ _min, /** @type {number} */ max) => [0, Math.max(max * 1.1, 1)] } },
    axes: [axis(), { ...axis(), size: 70, values: (/** @type {unknown} */ _, /** @type {number[]} */ values) => values.map(format) }],
    series: [
      { value: (/** @type {unknown} */ _, /** @type {number | null} */ at) => (at == null ? "–" : new Date(at * 1000).toLocaleTimeString()) },
      ...series.map((one) => ({
        label: one.label,
        stroke: () => color(one.color),
        width: 2,
        dash: one.dash,
        spanGaps: true,
        points: { show: false },
        value: (/** @type {unknown} */ _, /** @type {number | null} */ value) => (value == null ? "–" : format(value)),
      })),
    ],
  };
  place.replaceChildren();
  const made = new window.uPlot(options, [[], ...series.map(() => [])], place);
  new ResizeObserver(() => made.setSize({ width: Math.max(place.clientWidth, 240), height })).observe(place);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => made.redraw());
  return made;
}

/** @type {Map<number, Record<string, number>>} */
const seconds = new Map();
/** @type {Map<number, Record<string, TimeToStatus>>} */
const periods = new Map();

const rates = chart(byId("rates"), RATES.map((one, index) => ({ label: seriesOf("rates", index), color: one.color })), 330, (value) => String(Math.round(value * 10) / 10));
const times = chart(
  byId("times"),
  TIMES.flatMap((one, index) => [
    { label: `${seriesOf("times", index)} p50`, color: one.color },
    { label: `${seriesOf("times", index)} p99`, color: one.color, dash: [4, 4] },
  ]),
  200,
  (value) => duration(Math.round(value)),
);

function draw() {
  const now = Math.floor(Date.now() / 1000);
  for (const map of [seconds, periods]) for (const at of map.keys()) if (at < now - SECONDS) map.delete(at);
  const at = Array.from({ length: SECONDS }, (_, index) => now - SECONDS + index);
  // Averages of five seconds: single events would only make spikes.
  const mean = (/** @type {number} */ second, /** @type {string} */ subject) => {
    let sum = 0;
    for (let back = 0; back < 5; back += 1) sum += seconds.get(second - back)?.[subject] ?? 0;
    return sum / 5;
  };
  rates.setData([at, ...RATES.map((one) => at.map((second) => mean(second, one.subject)))]);
  const begins = [...periods.keys()].sort((a, b) => a - b);
  const values = TIMES.flatMap((one) => [
    begins.map((begin) => periods.get(begin)?.[one.status]?.p50 ?? null),
    begins.map((begin) => periods.get(begin)?.[one.status]?.p99 ?? null),
  ]);
  times.setData([begins, ...values]);
}

/** @param {State} state */
function show(state) {
  for (const element of document.querySelectorAll("[data-count]")) {
    const count = state.orders?.[element.getAttribute("data-count") ?? ""];
    setText(element, count === undefined ? "–" : numbers.format(count).replaceAll(",", "\u202f"));
  }
  for (const element of document.querySelectorAll("[data-rate]")) {
    setText(element, (state.per_second[element.getAttribute("data-rate") ?? ""] ?? 0).toFixed(1));
  }
  for (const row of document.querySelectorAll("[data-time]")) {
    const reached = state.times[row.getAttribute("data-time") ?? ""];
    const cells = row.querySelectorAll("td");
    setText(cells[0], reached ? duration(reached.p50) : "–");
    setText(cells[1], reached ? duration(reached.p99) : "–");
    setText(cells[2], String(reached?.orders ?? 0));
  }
  setText(byId("speed"), String(state.speed));
  setText(byId("waiting"), String(state.consumers.reduce((sum, one) => sum + one.waiting + one.unacknowledged, 0)));
  setText(byId("dead"), state.dead_letters === undefined ? "–" : String(state.dead_letters));
  byId("dead").className = state.dead_letters ? "warning" : "";
  byId("faults").hidden = state.faults.length === 0;
  setText(byId("fault-kinds"), state.faults.join(", "));
  showConsumers(state.consumers);
  showServices(state.services);
  showOutboxes(state.outboxes);
  showEvents(state.events);
}

/** @param {string} tag @param {string} text @param {Record<string, string>} [attributes] */
function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** @param {Consumer[]} consumers */
function showConsumers(consumers) {
  byId("consumers").replaceChildren(
    ...consumers.map((one) => {
      const row = document.createElement("tr");
      row.append(make("th", one.name, { scope: "row" }));
      for (const count of [one.waiting, one.unacknowledged, one.redelivered]) {
        row.append(make("td", String(count), { class: "number" }));
      }
      return row;
    }),
  );
}

/** @param {Service[]} services */
function showServices(services) {
  const isWell = services.every((one) => one.status === "ok");
  const status = byId("status");
  setText(status, textOf("status", isWell ? "well" : "unwell"));
  status.className = `dot ${isWell ? "good" : "bad"}`;
  byId("services").replaceChildren(
    ...services.map((one) => {
      const item = document.createElement("li");
      item.append(make("span", one.name, { class: `dot ${one.status === "ok" ? "good" : "bad"}` }));
      if (one.warnings > 0) item.append(make("p", `${one.warnings} ${textOf("services", "warning")}`, { class: "warning" }));
      return item;
    }),
  );
}

/** @param {Record<string, number>} outboxes */
function showOutboxes(outboxes) {
  byId("outboxes").replaceChildren(
    ...Object.entries(outboxes).map(([service, lag]) => {
      const figure = document.createElement("div");
      figure.append(make("dt", service), make("dd", `${lag.toFixed(1)} s`));
      return figure;
    }),
  );
}

/** @param {LiveEvent[]} events */
function showEvents(events) {
  byId("events").replaceChildren(
    ...events.map((one) => {
      const item = document.createElement("li");
      item.append(make("time", new Date(one.at).toLocaleTimeString(), { datetime: one.at }), " ", make("code", one.subject), " ");
      const total = one.total ? `, ${(one.total.amount / 100).toFixed(2)} ${one.total.currency}` : "";
      item.append(`${one.quantity === undefined ? "" : `${one.quantity} × `}${one.name ?? one.barcode ?? ""}${total}`);
      return item;
    }),
  );
}

/**
 * Lets a dot move out of each stage that something left; the busier, the more dots.
 * @param {State} state
 */
function move(state) {
  if (isCalm.matches || document.hidden) return;
  for (const stage of document.querySelectorAll(".stage")) {
    const rate = state.per_second[stage.getAttribute("data-subject") ?? ""] ?? 0;
    const dots = rate >= 1 ? Math.min(4, 1 + Math.floor(Math.log2(rate))) : Number(Math.random() < rate);
    for (let index = 0; index < dots; index += 1) {
      const dot = make("span", "", { class: `mover delay-${index}`, "aria-hidden": "true" });
      dot.addEventListener("animationend", () => dot.remove());
      stage.append(dot);
    }
  }
}

byId("stages").addEventListener("follow", (event) => {
  const { name, data } = /** @type {CustomEvent<{name: string, data: string}>} */ (event).detail;
  if (name === "history") {
    /** @type {History} */
    const history = JSON.parse(data);
    for (const one of history.seconds) seconds.set(one.at, one.events);
    for (const one of history.times) periods.set(one.at, one.times);
    draw();
  } else if (name === "state") {
    /** @type {State} */
    const state = JSON.parse(data);
    seconds.set(state.last_second.at, state.last_second.events);
    if (state.last_period.at > 0) periods.set(state.last_period.at, state.last_period.times);
    show(state);
    move(state);
    draw();
  } else if (name === "lost") {
    setText(byId("status"), textOf("status", "offline"));
    byId("status").className = "dot bad";
  }
});
