// What people do with the page.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { api, assertAccessible, base, closeBrowser, password, register, signIn, visit } from "./browser.mjs";

after(closeBrowser);

const operator = process.env.OPERATOR ?? "operator@example.org";
const LENTILS = process.env.BARCODE ?? "2000000000015";

/**
 * Pays in, and orders for the first device; returns the id of the order.
 * @param {import("playwright-core").Page} page
 */
async function order(page) {
  const paid = await api(page, "POST", "/api/account/deposits", { amount: { amount: 5_000, currency: "EUR" } });
  assert.equal(paid.status, 201, JSON.stringify(paid));
  const { body } = await api(page, "GET", "/api/devices");
  const placed = await api(page, "POST", "/api/orders", { ssd_id: body.devices[0].ssd_id, barcode: LENTILS, quantity: 2 });
  assert.equal(placed.status, 201, JSON.stringify(placed));
  return /** @type {string} */ (placed.body.id);
}

test("a stranger registers, orders, and watches the story of the order complete", async () => {
  const { page, leave } = await visit();
  await register(page);
  await page.getByText("No orders yet.").waitFor();
  const id = await order(page);
  await page.goto(`/orders/${id}`);
  await page.getByText("The message").first().click();
  // The page is never loaded again: the events of the order update it.
  await page.evaluate(() => Object.assign(window, { isSame: true }));
  await page.locator("#story [role=status]", { hasText: "completed" }).waitFor();
  await page.getByText("units were put on the shelf: 0 before, 2 after").waitFor();
  await page.getByText("A letter was written: ", { exact: false }).nth(1).waitFor();
  assert.ok(await page.evaluate(() => "isSame" in window), "the page was loaded again");
  const titles = await page.locator(".timeline h3").allTextContents();
  for (const subject of ["orders.pending", "orders.paid", "orders.shipped", "orders.completed"]) {
    assert.equal(titles.filter((title) => title === subject).length, 1, titles.join("\n"));
  }
  assert.ok(titles.some((title) => title.includes("were charged")), titles.join("\n"));
  // Each message is there as its stream holds it, and the one that was opened is still open.
  await page.getByText(`ce-id: ${id}:pending`).waitFor();
  await page.goto("/orders");
  await page.getByRole("link", { name: id.slice(-8) }).waitFor();
  await page.getByLabel("Status").selectOption("refused");
  await page.getByText("No orders match.").waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("link", { name: "Sign in" }).waitFor();
  await leave();
});

test("only a page that somebody looks at has a stream, and only while something may happen", async () => {
  const { page, leave } = await visit();
  await page.addInitScript(() => {
    const sources = /** @type {EventSource[]} */ ([]);
    const Real = window.EventSource;
    window.EventSource = class extends Real {
      /** @param {string | URL} url */
      constructor(url) {
        super(url);
        sources.push(this);
      }
    };
    Object.assign(window, { open: () => sources.filter((source) => source.readyState !== EventSource.CLOSED).length });
  });
  const streams = () => page.evaluate(() => /** @type {any} */ (window).open());
  /** @param {boolean} isHidden */
  const hide = (isHidden) =>
    page.evaluate((isHidden) => {
      Object.defineProperty(document, "hidden", { configurable: true, value: isHidden });
      document.dispatchEvent(new Event("visibilitychange"));
    }, isHidden);
  await page.goto("/");
  assert.equal(await streams(), 1);
  await hide(true);
  assert.equal(await streams(), 0);
  await hide(false);
  assert.equal(await streams(), 1);
  await register(page);
  await page.goto(`/orders/${await order(page)}`);
  assert.equal(await streams(), 1);
  await page.getByRole("heading", { name: /is on your shelf/ }).waitFor();
  while ((await streams()) > 0) await page.waitForTimeout(100);
  await leave();
});

test("a person cancels an order that is not shipped yet", async () => {
  const { page, leave } = await visit();
  await register(page);
  const status = page.locator("#story").getByRole("status");
  // The supplier may be as fast as a person is slow, so more than one attempt may be needed.
  do {
    await page.goto(`/orders/${await order(page)}`);
    await page.getByRole("button", { name: "Cancel this order" }).click({ timeout: 1_000 }).catch(() => {});
  } while ((await status.textContent()) !== "cancelled");
  await page.locator(".timeline .letter h3", { hasText: "cancelled" }).waitFor();
  // Whether it was charged before depends on who was faster. In the end nobody pays for it.
  await page.waitForFunction(() => {
    const money = [...document.querySelectorAll(".timeline .money h3")].map((title) => title.textContent ?? "");
    return money.filter((title) => title.includes("charged")).length === money.filter((title) => title.includes("refunded")).length;
  });
  await leave(/status of 409/);
});

test("nobody sees the orders of somebody else", async () => {
  const ada = await visit();
  await register(ada.page);
  const id = await order(ada.page);
  const bob = await visit();
  await register(bob.page);
  assert.equal((await bob.page.goto(`/orders/${id}`))?.status(), 404);
  await bob.page.getByRole("heading", { name: "Not found" }).waitFor();
  for (const path of [`/api/orders/${id}/live`, `/api/orders/${id}/messages`, `/api/orders/${id}`]) {
    assert.equal((await api(bob.page, "GET", path)).status, 404, path);
  }
  await bob.page.goto("/orders");
  await bob.page.getByText("No orders yet.").waitFor();
  await ada.leave();
  await bob.leave(/status of 404/);
});

test("a session that ended leads to the sign-in, and back", async () => {
  const { page, leave } = await visit();
  const email = await register(page);
  const { body } = await api(page, "GET", "/api/sessions");
  assert.equal((await api(page, "DELETE", `/api/sessions/${body.sessions[0].id}`)).status, 204);
  // The end of the session travels through the broker.
  do await page.goto("/orders?status=paid");
  while (!page.url().includes("/sign-in?next="));
  await page.getByLabel("E-mail address").fill(email);
  await page.getByLabel("Password").fill("a wrong password");
  await page.getByRole("main").getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("alert").getByText("No account has this e-mail address and password.").waitFor();
  await page.getByLabel("Password").fill(password);
  await page.getByRole("main").getByRole("button", { name: "Sign in" }).click();
  await page.waitForURL("**/orders?status=paid");
  await leave(/status of 401/);
});

test("the system is shown live", async () => {
  const { page, leave } = await visit();
  await page.goto("/");
  await page.locator("#rates .u-legend").waitFor();
  await page.getByText("all services work").waitFor();
  const ada = await visit();
  await register(ada.page);
  const placed = page.locator("[data-count=placed]");
  await page.waitForFunction(() => /\d/.test(document.querySelector("[data-count=placed]")?.textContent ?? ""));
  const before = Number((await placed.textContent())?.replace(/\D/g, ""));
  await order(ada.page);
  await page.waitForFunction((before) => Number(document.querySelector("[data-count=placed]")?.textContent?.replace(/\D/g, "")) > before, before);
  await page.locator("#events").getByText("orders.paid").first().waitFor();
  assert.ok((await page.locator("#consumers tr").count()) > 10);
  await ada.leave();
  await leave();
});

test("every page is there without scripts", async () => {
  const { page, leave } = await visit({ javaScriptEnabled: false });
  await page.goto("/");
  await page.getByRole("heading", { name: "Supplier" }).waitFor();
  await register(page);
  await page.getByText("No orders yet.").waitFor();
  // Playwright can evaluate scripts nevertheless; the page itself cannot.
  const id = await order(page);
  await page.goto("/orders");
  await page.getByRole("link", { name: id.slice(-8) }).click();
  await page.getByText("The order was placed").waitFor();
  await page.goto("/catalog?q=lentils");
  await page.getByRole("link", { name: "Red lentils" }).first().click();
  await page.getByLabel("Units").fill("2");
  await page.getByRole("button", { name: "Order" }).click();
  await page.waitForURL("**/orders/*");
  await page.goto("/account");
  await page.getByText("order", { exact: true }).first().waitFor();
  await page.goto("/shelves");
  await page.getByRole("heading", { name: /Device/ }).getByRole("link").click();
  // Without scripts somebody loads the page again to see what has arrived.
  do await page.reload();
  while ((await page.locator(".shelf > li").count()) === 0);
  await page.getByRole("button", { name: /Pause restocking/ }).first().click();
  await page.getByText("paused", { exact: true }).first().waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.goto("/sign-in");
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  await leave(/ERR_NAME_NOT_RESOLVED/);
});

test("a person finds a product in spite of a typing error, and orders it", async () => {
  const { page, leave } = await visit();
  await page.goto("/catalog");
  await page.getByRole("searchbox").fill("spageti");
  await page.getByText("No product has these words.").waitFor();
  await page.waitForURL("**/catalog?q=spageti");
  await page.getByRole("link", { name: "Spaghetti", exact: true }).first().click();
  const path = new URL(page.url()).pathname;
  await page.getByRole("link", { name: "Sign in to order" }).click();
  await register(page, path);
  await api(page, "POST", "/api/account/deposits", { amount: { amount: 50_000, currency: "EUR" } });
  await page.getByLabel("Units").fill("3");
  await page.getByRole("button", { name: "Order" }).click();
  await page.waitForURL("**/orders/*");
  await page.getByRole("link", { name: "Spaghetti" }).waitFor();
  // The category leads to similar products.
  await page.goto(path);
  await page.locator(".tags a").first().click();
  await page.locator(".product").nth(1).waitFor();
  await leave(/ERR_NAME_NOT_RESOLVED|status of 404/);
});

test("a person looks after a shelf", async () => {
  const { page, leave } = await visit();
  await register(page, "/shelves");
  await page.getByText("The shelf is empty.").waitFor();
  await order(page);
  await page.getByRole("heading", { name: /Device/ }).getByRole("link").click();
  // The delivery arrives while the page is open.
  const item = page.locator(".shelf > li");
  await item.getByRole("heading", { name: /enough|low/ }).waitFor();
  const units = item.locator("dd").first();
  assert.equal(await units.textContent(), "2");
  await page.reload();
  await item.getByRole("img", { name: /2 delivered/ }).waitFor();
  await item.getByRole("spinbutton", { name: "Reorder point" }).fill("1");
  await item.getByRole("button", { name: /Change the reorder point/ }).click();
  await item.getByText("enough").waitFor();
  await item.getByRole("button", { name: /Pause restocking/ }).click();
  await item.getByText("paused", { exact: true }).waitFor();
  await item.getByRole("button", { name: /Resume restocking/ }).click();
  await item.getByText("enough").waitFor();
  await item.getByRole("button", { name: /^Take/ }).click();
  await item.getByText("low", { exact: true }).waitFor();
  assert.equal(await units.textContent(), "1");
  await item.getByRole("spinbutton", { name: "Units to order" }).fill("3");
  await item.getByRole("button", { name: /Order more/ }).click();
  await page.waitForURL("**/orders/*");
  await page.getByText("3 units were put on the shelf: 1 before, 4 after").waitFor();
  // Another device, by its code.
  await page.goto("/shelves");
  await page.getByLabel("Device code").fill("nonsense");
  await page.getByRole("button", { name: "Add" }).click();
  await page.getByRole("alert").waitFor();
  const code = `02:00:${[24, 16, 8, 0].map((shift) => ((Date.now() >> shift) & 255).toString(16).padStart(2, "0")).join(":")}`;
  await page.getByLabel("Device code").fill(code);
  await page.getByRole("button", { name: "Add" }).click();
  await page.getByText("Its key is shown only now.").waitFor();
  await leave(/ERR_NAME_NOT_RESOLVED|status of 4(04|22)/);
});

test("a person looks after their account", async () => {
  const { page, leave } = await visit();
  const email = await register(page, "/account");
  await page.getByRole("heading", { name: "Ada Example" }).waitFor();
  await page.getByLabel("Pay in, in EUR").fill("nothing");
  await page.getByRole("button", { name: "Deposit" }).click();
  await page.getByRole("alert").getByText("Expected an amount").waitFor();
  await page.getByLabel("Pay in, in EUR").fill("50");
  await page.getByRole("button", { name: "Deposit" }).click();
  await page.getByText("50.00 EUR").first().waitFor();
  await page.getByLabel("Pay out, in EUR").fill("12,50");
  await page.getByRole("button", { name: "Withdraw" }).click();
  await page.getByText("37.50 EUR").waitFor();
  await page.getByText("−12.50 EUR").waitFor();
  await page.getByLabel("Pay out, in EUR").fill("1000");
  await page.getByRole("button", { name: "Withdraw" }).click();
  await page.getByRole("alert").waitFor();
  // The letter of the welcome is there, and then it is read.
  await page.goto("/account");
  do await page.reload();
  while ((await page.locator(".letters summary").count()) === 0);
  await page.locator(".letters summary").first().click();
  await page.getByRole("button", { name: "Mark this and older letters as read" }).click();
  await page.waitForFunction(() => !document.querySelector("h2 .badge"));
  // Another browser signs in, and is signed out from here.
  const other = await visit();
  await other.page.goto("/sign-in?next=/account");
  await other.page.getByLabel("E-mail address").fill(email);
  await other.page.getByLabel("Password").fill(password);
  await other.page.getByRole("main").getByRole("button", { name: "Sign in" }).click();
  await other.page.waitForURL("**/account");
  await page.reload();
  await page.getByRole("button", { name: "Sign out there" }).click();
  await page.waitForFunction(() => ![...document.querySelectorAll("button")].some((one) => one.textContent === "Sign out there"));
  do await other.page.goto("/account");
  while (!other.page.url().includes("/sign-in"));
  await other.leave();
  await page.getByLabel("Last name").fill("Lovelace");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByRole("heading", { name: "Ada Lovelace" }).waitFor();
  await page.getByLabel("Old password").fill("a wrong password");
  await page.getByLabel("New password").fill("another horse battery");
  await page.getByRole("button", { name: "Change" }).click();
  await page.getByRole("alert").waitFor();
  await leave(/status of 4(02|22)/);
});

// Two messages that are not orders are waiting for the operator.
test("an operator repairs a dead letter and replays it, and drops another one", async () => {
  const { page, leave } = await visit();
  await register(page);
  const { body } = await api(page, "GET", `/api/orders/${await order(page)}/messages`);
  await page.getByRole("button", { name: "Sign out" }).click();
  await signIn(page, operator, "/");
  await page.getByRole("link", { name: "dead letters" }).click();
  const letters = page.locator("tbody tr");
  await page.getByLabel("Consumer").selectOption("billing-pending");
  await page.getByRole("button", { name: "Show" }).click();
  await page.waitForURL("**consumer=billing-pending**");
  assert.equal(await letters.count(), 2);
  await page.getByRole("button", { name: "Count them" }).click();
  await page.getByText("2 match.").waitFor();
  await letters.first().getByRole("link").click();
  await page.getByLabel("JSON, to repair it").fill("still not JSON");
  await page.getByRole("button", { name: "Replay this" }).click();
  await page.getByRole("alert").getByText("The body is not JSON").waitFor();
  const pending = body.messages.find((/** @type {any} */ message) => message.subject === "orders.pending");
  await page.getByLabel("JSON, to repair it").fill(JSON.stringify(pending.data));
  await page.getByRole("button", { name: "Replay this" }).click();
  await page.waitForURL("**/operator/dead-letters");
  assert.equal(await letters.count(), 1);
  await letters.first().getByRole("link").click();
  await page.getByLabel("Reason").fill("nobody ordered this");
  await page.getByRole("button", { name: "Drop" }).click();
  // The repaired message was handled: no other dead letter follows from it.
  await page.getByText("There are no dead letters").waitFor();
  await leave(/status of 422/);
});

test("an operator audits the system, and looks at its streams and imports", async () => {
  const { page, leave } = await visit();
  await signIn(page, operator, "/");
  await page.getByRole("main").getByRole("link", { name: "Audit" }).click();
  await page.getByRole("button", { name: "Audit now" }).click();
  await page.getByText("An audit has been running since").waitFor();
  await page.getByRole("heading", { name: "every order is accounted for" }).waitFor({ timeout: 60_000 });
  await page.locator(".checks").getByText("money", { exact: true }).waitFor();
  await page.getByRole("link", { name: "Streams and orders" }).click();
  await page.getByRole("heading", { name: "ORDERS", exact: true }).waitFor();
  await page.getByRole("rowheader", { name: "billing-pending" }).waitFor();
  await page.getByRole("link", { name: "Imports" }).click();
  await page.getByRole("heading", { name: "Imports of the catalog" }).waitFor();
  await page.locator(".import").first().waitFor();
  await leave();
});

test("an operator switches a failure on, sees what it does, and switches it off", async () => {
  const { page, leave } = await visit();
  await signIn(page, operator, "/operator/faults");
  const payment = page.locator("#payment_refused");
  await payment.getByLabel("Minutes").fill("0");
  await payment.getByRole("button", { name: "Switch on payment_refused" }).click();
  await payment.getByRole("alert").getByText("Minutes: expected a whole number").waitFor();
  await payment.getByRole("button", { name: "Switch on payment_refused" }).click();
  await payment.getByText("100 %, seed 0, until").waitFor();
  const ada = await visit();
  await register(ada.page);
  const status = ada.page.locator("#story").getByRole("status");
  // Services notice it within a second or two.
  do {
    await ada.page.goto(`/orders/${await order(ada.page)}`);
    await ada.page.locator("#story [role=status]", { hasText: /refused|shipped|completed/ }).waitFor();
  } while ((await status.textContent()) !== "refused");
  await payment.getByRole("button", { name: "Switch off payment_refused" }).click();
  await payment.getByRole("button", { name: "Switch on payment_refused" }).waitFor();
  do {
    await ada.page.goto(`/orders/${await order(ada.page)}`);
    await ada.page.locator("#story [role=status]", { hasText: /refused|shipped|completed/ }).waitFor();
  } while ((await status.textContent()) === "refused");
  await ada.leave();
  await leave(/status of 422/);
});

test("nobody but an operator sees the pages of operators", async () => {
  const { page, leave } = await visit();
  await page.goto("/operator");
  await page.waitForURL("**/sign-in?next=/operator");
  await register(page);
  for (const path of ["/operator", "/operator/audit", "/operator/dead-letters", "/operator/dead-letters/1", "/operator/imports", "/operator/faults"]) {
    assert.equal((await page.goto(path))?.status(), 403, path);
    await page.getByRole("heading", { name: "Not allowed" }).waitFor();
  }
  await page.goto("/");
  await page.getByRole("main").getByRole("link", { name: "Audit" }).click();
  await page.getByRole("heading", { name: "Not allowed" }).waitFor();
  await leave(/status of 403/);
});

for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
  for (const width of [360, 1280, 2560]) {
    test(`every page is accessible: ${colorScheme}, ${width} px`, async () => {
      const { page, leave } = await visit({ colorScheme, viewport: { width, height: 900 } });
      for (const path of ["/", "/catalog?q=choc", "/catalog?q=nothing+of+this+kind", "/sign-in", "/register"]) {
        await page.goto(path);
        await assertAccessible(page);
      }
      await register(page);
      await assertAccessible(page);
      const id = await order(page);
      const { body } = await api(page, "GET", "/api/devices");
      for (const path of ["/orders", `/orders/${id}`, `/catalog/${LENTILS}`, "/shelves", "/account", `/devices/${body.devices[0].ssd_id}`]) {
        await page.goto(path);
        await assertAccessible(page);
      }
      await page.getByRole("button", { name: "Sign out" }).click();
      await signIn(page, operator, "/operator");
      await assertAccessible(page);
      for (const path of ["/operator/audit", "/operator/dead-letters", "/operator/imports", "/operator/imports/1", "/operator/faults"]) {
        await page.goto(path);
        await assertAccessible(page);
      }
      await page.goto("/nowhere-at-all").catch(() => {});
      await leave(/ERR_NAME_NOT_RESOLVED|status of 404/);
    });
  }
}

test("one Swagger UI shows the documents of all services", async () => {
  const { page, leave } = await visit();
  await page.goto("/docs/");
  await page.locator(".opblock").first().waitFor();
  const documents = page.locator("#select option");
  assert.deepEqual(await documents.allTextContents(), ["auth", "users", "orders", "billing", "notifications", "operator", "gateway"]);
  await page.locator("#select").selectOption({ label: "operator" });
  await page.getByText("/api/operator/dead-letters", { exact: true }).waitFor();
  await leave();
});

test("the first view is small", async () => {
  const { page, leave } = await visit();
  let bytes = 0;
  page.on("response", async (response) => {
    const sizes = await response.request().sizes().catch(() => undefined);
    if (!response.url().endsWith("/api/live")) bytes += (sizes?.responseBodySize ?? 0) + (sizes?.responseHeadersSize ?? 0);
  });
  await page.goto("/");
  await page.locator("#rates .u-legend").waitFor();
  assert.ok(bytes > 10_000 && bytes < 100 * 1024, `${bytes} bytes from ${base}`);
  await leave();
});
