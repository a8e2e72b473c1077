// Shows times in the zone of the browser. Without this script they are in UTC.

/** @param {ParentNode} root */
function localize(root) {
  for (const element of root.querySelectorAll("time[data-show]")) {
    const at = new Date(element.getAttribute("datetime") ?? "");
    if (Number.isNaN(at.getTime())) continue;
    const time = at.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
    const isToday = at.toDateString() === new Date().toDateString();
    element.textContent = element.getAttribute("data-show") === "time" && isToday ? time : `${at.toLocaleDateString()} ${time}`;
  }
}

localize(document);
document.addEventListener("htmx:load", (event) => localize(/** @type {Element} */ (event.target)));
