//! Who may call what: every route, for every kind of caller, through the gateway and the real services.

mod clocks;
mod forged;
mod operators;
mod outage;
mod revocation;
mod rotation;
mod secrets;
mod system;

use off_auth_service::AuthService;
use off_billing_service::BillingService;
use off_gateway::Gateway;
use off_generator::Generator;
use off_kit::Service;
use off_notifications_service::NotificationsService;
use off_operator_service::OperatorService;
use off_orders_service::OrdersService;
use off_testkit::{Http, LENTILS};
use off_users_service::UsersService;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use system::{Owner, System};
use utoipa::openapi::OpenApi;
use uuid::Uuid;

/// A route, and the status that each caller gets. All resources belong to Ada: her id, her device, her order.
struct Row {
    /// The method and the path, as in the OpenAPI document.
    route: &'static str,
    /// The body, for routes that need one.
    body: Option<Value>,
    /// The status for each of [`CALLERS`].
    expected: [u16; 7],
}

/// Ada's device is real; the generator may act for simulated ones only.
const CALLERS: [&str; 7] = ["nobody", "ada", "bob", "ada's device", "bob's device", "generator", "operator"];

fn row(route: &'static str, body: Option<Value>, expected: [u16; 7]) -> Row {
    Row { route, body, expected }
}

/// The routes with a rule that needs a token.
fn protected_routes(ada: &Owner) -> Vec<Row> {
    let profile = json!({"first_name": "Ada", "last_name": "Example", "email": "ada@example.org"});
    let order = json!({"ssd_id": ada.ssd_id, "barcode": LENTILS, "quantity": 1});
    let money = json!({"amount": {"amount": 100, "currency": "EUR"}});
    let reversal = json!({"subject": Uuid::nil(), "reason": "paid in twice"});
    let report = json!({"consumptions":
        [{"id": "1", "barcode": LENTILS, "quantity": 1, "timestamp": "2026-01-01T12:00:00Z"}]});
    // A body that is invalid, so that a caller who is allowed changes nothing.
    let invalid = Some(json!({"old_password": 1}));
    vec![
        row("GET /api/users/{id}", None, [401, 200, 404, 403, 403, 404, 200]),
        row("PUT /api/users/{id}", Some(profile), [401, 200, 404, 403, 403, 403, 403]),
        row("GET /api/devices", None, [401, 200, 200, 403, 403, 200, 200]),
        row("POST /api/devices", Some(json!({})), [401, 422, 422, 403, 403, 403, 403]),
        row("GET /api/devices/{ssd_id}", None, [401, 200, 404, 200, 404, 404, 200]),
        row("POST /api/devices/{ssd_id}/consumptions", Some(report), [401, 200, 404, 200, 404, 404, 403]),
        row(
            "PUT /api/devices/{ssd_id}/shelf/{barcode}",
            Some(json!({"is_paused": true})),
            [401, 200, 404, 403, 403, 404, 403],
        ),
        row("GET /api/devices/{ssd_id}/history", None, [401, 200, 404, 200, 404, 404, 200]),
        // Nothing is delivered yet.
        row("GET /api/devices/{ssd_id}/deliveries/{order_id}", None, [401, 404, 404, 404, 404, 404, 404]),
        row("GET /api/me/live", None, [401, 200, 200, 200, 200, 403, 403]),
        row("POST /api/orders", Some(order), [401, 201, 422, 201, 422, 422, 403]),
        row("GET /api/orders", None, [401, 200, 200, 200, 200, 403, 200]),
        row("GET /api/orders/{id}", None, [401, 200, 404, 200, 404, 404, 200]),
        row("GET /api/orders/{id}/messages", None, [401, 200, 404, 200, 404, 404, 200]),
        row("GET /api/orders/{id}/live", None, [401, 200, 404, 200, 404, 404, 200]),
        row("POST /api/orders/{id}/cancel", None, [401, 200, 404, 200, 404, 404, 403]),
        row("GET /api/account", None, [401, 200, 404, 403, 403, 404, 200]),
        row("GET /api/account/transfers", None, [401, 200, 404, 403, 403, 404, 200]),
        row("POST /api/account/deposits", Some(money.clone()), [401, 201, 404, 403, 403, 404, 403]),
        row("POST /api/account/withdrawals", Some(money), [401, 201, 404, 403, 403, 404, 403]),
        row("POST /api/account/reversals", Some(reversal), [401, 403, 403, 403, 403, 403, 404]),
        row("GET /api/letters", None, [401, 200, 404, 403, 403, 404, 403]),
        row("GET /api/letters/{id}", None, [401, 404, 404, 403, 403, 404, 403]),
        row("POST /api/letters/{id}/read", None, [401, 404, 404, 403, 403, 404, 403]),
        row("GET /api/letters/preferences", None, [401, 200, 404, 403, 403, 404, 403]),
        row("PUT /api/letters/preferences", Some(json!({"not_mailed": []})), [401, 200, 404, 403, 403, 404, 403]),
        row("PUT /api/password", invalid, [401, 422, 422, 403, 403, 403, 403]),
        row("GET /api/sessions", None, [401, 200, 200, 403, 403, 403, 403]),
        row("DELETE /api/sessions/{id}", None, [401, 404, 404, 403, 403, 403, 403]),
        row("GET /api/devices/{ssd_id}/keys", None, [401, 200, 404, 200, 404, 403, 403]),
        // A device may have two keys: the first caller who is allowed makes the second, the next gets 409.
        row("POST /api/devices/{ssd_id}/keys", Some(json!({})), [401, 201, 404, 409, 404, 403, 403]),
        row("DELETE /api/devices/{ssd_id}/keys/{id}", None, [401, 404, 404, 404, 404, 403, 403]),
        row("GET /api/keys", None, [401, 403, 403, 403, 403, 403, 200]),
        row("POST /api/keys", Some(json!({"signs_after_seconds": -1})), [401, 403, 403, 403, 403, 403, 422]),
        row("DELETE /api/keys/{kid}", None, [401, 403, 403, 403, 403, 403, 404]),
        row("GET /api/operator/dead-letters", None, [401, 403, 403, 403, 403, 403, 200]),
        // There are no dead letters.
        row("GET /api/operator/dead-letters/{number}", None, [401, 403, 403, 403, 403, 403, 404]),
        row("POST /api/operator/dead-letters/{number}/replay", None, [401, 403, 403, 403, 403, 403, 404]),
        row(
            "POST /api/operator/dead-letters/{number}/drop",
            Some(json!({"why": "a test"})),
            [401, 403, 403, 403, 403, 403, 404],
        ),
        row("POST /api/operator/replays", Some(json!({"dry_run": true})), [401, 403, 403, 403, 403, 403, 200]),
        row("GET /api/operator/replays/latest", None, [401, 403, 403, 403, 403, 403, 404]),
        row("POST /api/operator/audits", None, [401, 403, 403, 403, 403, 403, 202]),
        row("GET /api/operator/audits/latest", None, [401, 403, 403, 403, 403, 403, 200]),
        row("GET /api/operator/faults", None, [401, 403, 403, 403, 403, 403, 200]),
        // They are not allowed here.
        row("PUT /api/operator/faults/{kind}", Some(json!({})), [401, 403, 403, 403, 403, 403, 403]),
        row("DELETE /api/operator/faults/{kind}", None, [401, 403, 403, 403, 403, 403, 204]),
        row("GET /api/operator/streams", None, [401, 403, 403, 403, 403, 403, 200]),
        row("GET /api/operator/overdue-orders", None, [401, 403, 403, 403, 403, 403, 200]),
        row("GET /api/operator/imports", None, [401, 403, 403, 403, 403, 403, 200]),
        // Nothing was imported.
        row("GET /api/operator/imports/{id}/rejects", None, [401, 403, 403, 403, 403, 403, 404]),
    ]
}

/// The routes that need no token. Their status does not depend on the caller, because they look at none.
const PUBLIC_ROUTES: [(&str, u16); 15] = [
    ("POST /api/login", 422),
    ("POST /api/refresh", 401),
    ("POST /api/logout", 204),
    ("POST /oauth/token", 400),
    ("POST /oauth/revoke", 400),
    ("GET /.well-known/jwks.json", 200),
    ("GET /.well-known/oauth-authorization-server", 200),
    ("GET /api/live", 200),
    ("GET /api/orders/counts", 200),
    ("GET /api/products", 200),
    ("GET /api/products/{barcode}", 200),
    ("GET /health", 200),
    ("GET /client/health/", 200),
    // Only on the health ports of the services, which are not published.
    ("GET /livez", 404),
    ("GET /readyz", 404),
];

/// Open to everybody, and to the generator for simulated people.
const REGISTER: &str = "POST /api/register";

fn documents() -> [OpenApi; 8] {
    [
        AuthService::openapi(),
        UsersService::openapi(),
        OrdersService::openapi(),
        BillingService::openapi(),
        NotificationsService::openapi(),
        OperatorService::openapi(),
        Gateway::openapi(),
        Generator::openapi(),
    ]
}

#[test]
fn every_route_is_in_the_table() {
    let owner = Owner::default();
    let mut tested: BTreeSet<String> = protected_routes(&owner).into_iter().map(|row| row.route.to_owned()).collect();
    tested.extend(PUBLIC_ROUTES.iter().map(|(route, _)| (*route).to_owned()));
    tested.insert(REGISTER.to_owned());
    let mut declared = BTreeSet::new();
    for document in documents() {
        for (path, item) in document.paths.paths {
            let methods = [
                ("GET", item.get),
                ("PUT", item.put),
                ("POST", item.post),
                ("DELETE", item.delete),
                ("PATCH", item.patch),
                ("HEAD", item.head),
                ("OPTIONS", item.options),
                ("TRACE", item.trace),
            ];
            declared
                .extend(methods.into_iter().filter_map(|(method, found)| found.map(|_| format!("{method} {path}"))));
        }
    }
    assert_eq!(tested, declared);
}

/// The method and the path of a route, with the ids of `ada`.
fn target(route: &str, ada: &Owner) -> (Method, String) {
    let (method, path) = route.split_once(' ').unwrap();
    let id = if path.starts_with("/api/users") {
        ada.user_id.to_string()
    } else if path.starts_with("/api/orders") {
        ada.order_id.clone()
    } else if path.starts_with("/api/letters") || path.starts_with("/api/operator") {
        // A letter, or an import, that does not exist.
        "0".to_owned()
    } else {
        // A session and a key that do not exist.
        Uuid::nil().to_string()
    };
    let is_of_person = path.starts_with("/api/account") || path.starts_with("/api/letters");
    let path = if is_of_person { format!("{path}?user_id={}", ada.user_id) } else { path.to_owned() };
    let path = path.replace("{ssd_id}", &ada.ssd_id.to_string()).replace("{id}", &id).replace("{kid}", "none");
    let path = path
        .replace("{barcode}", LENTILS)
        .replace("{order_id}", &ada.order_id)
        .replace("{number}", "1")
        .replace("{kind}", "poison");
    (method.parse().unwrap(), path)
}

async fn status(http: &Http, row: &Row, ada: &Owner) -> u16 {
    let (method, path) = target(row.route, ada);
    let request = http.request(method, &path);
    let request = if path.starts_with("/api/account/") { request.header("Idempotency-Key", "1") } else { request };
    let request = match &row.body {
        Some(body) => request.json(body),
        None => request,
    };
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn every_route_answers_every_kind_of_caller_as_declared() {
    let system = System::start().await;
    let (ada, callers) = (&system.ada, system.callers());
    for row in protected_routes(ada) {
        let mut found = [0; 7];
        for (index, http) in callers.iter().enumerate() {
            found[index] = status(http, &row, ada).await;
        }
        assert_eq!(found, row.expected, "{}: {CALLERS:?}", row.route);
    }
    for (route, expected) in PUBLIC_ROUTES {
        let row = row(route, Some(json!({})), [0; 7]);
        for (name, http) in CALLERS.iter().zip(&callers) {
            assert_eq!(status(http, &row, ada).await, expected, "{route}: {name}");
        }
    }
    // An invalid body, so that those who are allowed register nobody.
    let row = row(REGISTER, Some(json!({})), [0; 7]);
    for (http, expected) in callers.iter().zip([422, 403, 403, 403, 403, 422, 403]) {
        assert_eq!(status(http, &row, ada).await, expected, "{REGISTER}");
    }
    system.end().await;
}

#[tokio::test]
async fn no_route_accepts_a_token_that_is_not_valid() {
    let system = System::start().await;
    let ada = &system.ada;
    for (name, token) in forged::tokens(ada, &system.public_keys().await) {
        let http = system.anonymous().with_token(token);
        let register = row(REGISTER, Some(json!({})), [0; 7]);
        for row in protected_routes(ada).into_iter().chain([register]) {
            assert_eq!(status(&http, &row, ada).await, 401, "{}: {name}", row.route);
            // The services decide the same without the gateway.
            for service in system.services() {
                let status = status(&service.with_token_of(&http), &row, ada).await;
                assert!([401, 404, 405].contains(&status), "{}: {name}: {status}", row.route);
            }
        }
    }
    // The same claims with the right header are a valid token, so the table above tests what it says.
    let valid = system.anonymous().with_token(forged::valid(ada));
    assert_eq!(valid.get(&format!("/api/users/{}", ada.user_id)).await.status, 200);
    system.end().await;
}

#[tokio::test]
async fn a_person_sees_only_what_is_theirs() {
    let system = System::start().await;
    let (ada, bob) = (system.of(&system.ada), system.of(&system.bob));
    let devices = |body: &Value| -> Vec<i64> {
        body["devices"].as_array().unwrap().iter().map(|device| device["ssd_id"].as_i64().unwrap()).collect()
    };
    assert_eq!(devices(&ada.get("/api/devices").await.body), [system.ada.ssd_id]);
    assert_eq!(devices(&bob.get("/api/devices").await.body), [system.bob.ssd_id]);
    let orders = ada.get("/api/orders").await.body;
    assert_eq!(orders["orders"][0]["id"], system.ada.order_id.as_str());
    assert_eq!(bob.get("/api/orders").await.body["orders"], json!([]));
    let filtered = bob.get(&format!("/api/orders?ssd_id={}", system.ada.ssd_id)).await;
    assert_eq!(filtered.body["orders"], json!([]));
    let bobs_device = system.device_of(&system.bob);
    let filtered = bobs_device.get(&format!("/api/orders?ssd_id={}", system.ada.ssd_id)).await;
    assert_eq!(filtered.body["orders"], json!([]));

    // The key of Ada's order belongs to her device: Bob gets neither the order nor a hint that the key exists.
    let order = json!({"ssd_id": system.ada.ssd_id, "barcode": LENTILS, "quantity": 1});
    let unknown = json!({"ssd_id": 4_000_000, "barcode": LENTILS, "quantity": 1});
    let stolen = bob.post_with_key("/api/orders", System::ORDER_KEY, &order).await;
    let missing = bob.post_with_key("/api/orders", System::ORDER_KEY, &unknown).await;
    assert_eq!((stolen.status, stolen.wrong_fields()), (missing.status, missing.wrong_fields()));
    assert_eq!(ada.post_with_key("/api/orders", System::ORDER_KEY, &order).await.body["id"], *system.ada.order_id);
    system.end().await;
}

#[tokio::test]
async fn an_account_is_only_for_its_person() {
    let system = System::start().await;
    let (ada, bob) = (system.of(&system.ada), system.of(&system.bob));
    let money = json!({"amount": {"amount": 500, "currency": "EUR"}});
    let deposit = ada.post_with_key("/api/account/deposits", "first", &money).await;
    assert_eq!(deposit.status, 201, "{deposit:?}");
    // Ada's order may have been paid or not.
    let money_of = async |http: &Http| {
        let account = http.get("/api/account").await.body;
        account["balance"]["amount"].as_i64().unwrap() + account["held"]["amount"].as_i64().unwrap()
    };
    assert_eq!((money_of(&ada).await, money_of(&bob).await), (System::MONEY + 500, 0));

    // Somebody else looks like nobody.
    let of = |id: i64| format!("/api/account/withdrawals?user_id={id}");
    let stolen = bob.post_with_key(&of(system.ada.user_id), "second", &money).await;
    let missing = bob.post_with_key(&of(4_000_000), "second", &money).await;
    assert_eq!((stolen.status.as_u16(), missing.status.as_u16()), (404, 404));
    assert_eq!(stolen.body["code"], missing.body["code"]);
    // The same key is another payment for Bob.
    assert_eq!(bob.post_with_key("/api/account/deposits", "first", &money).await.status, 201);
    assert_eq!((money_of(&ada).await, money_of(&bob).await), (System::MONEY + 500, 500));

    let operator = system.client("operator").await;
    let reversal = json!({"subject": deposit.body["id"], "reason": "paid in twice"});
    assert_eq!(ada.post("/api/account/reversals", &reversal).await.status, 403);
    assert_eq!(operator.post("/api/account/reversals", &reversal).await.status, 200);
    assert_eq!((money_of(&ada).await, money_of(&bob).await), (System::MONEY, 500));
    system.end().await;
}

#[tokio::test]
async fn the_generator_acts_for_the_people_whom_it_registered() {
    let system = System::start().await;
    let generator = system.client("generator").await;
    let household = system::registration("eve@example.org", "02:0f:00:00:00:01");
    let registered = generator.post("/api/register", &household).await;
    assert_eq!(registered.status, 201, "{registered:?}");
    let ssd_id = registered.body["devices"][0]["ssd_id"].as_i64().unwrap();
    // It needs neither keys nor sessions.
    assert!(registered.body["devices"][0].get("key").is_none() && registered.body.get("session").is_none());
    let money = json!({"amount": {"amount": 500, "currency": "EUR"}});
    let account = format!("/api/account/deposits?user_id={}", registered.body["user_id"]);
    assert_eq!(generator.post_with_key(&account, "first", &money).await.status, 201);
    let order = json!({"ssd_id": ssd_id, "barcode": LENTILS, "quantity": 1});
    assert_eq!(generator.post("/api/orders", &order).await.status, 201);
    let listed = generator.get("/api/devices").await.body;
    assert_eq!(listed["devices"].as_array().unwrap().len(), 1, "{listed}");
    system.end().await;
}
