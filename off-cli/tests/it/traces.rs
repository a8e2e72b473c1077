//! The spans of an order form one trace, from the HTTP request to the last consumer.

use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use off_testkit::{LENTILS, Program, World, eventually};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};
use tokio::net::TcpListener;

/// The trace id of the client.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
/// The span id of the client.
const CLIENT: &str = "b7ad6b7169203331";

/// A span that was exported: its program, name and id, and the id of its parent.
#[derive(Debug, Clone)]
struct ExportedSpan {
    program: String,
    name: String,
    id: String,
    parent: String,
}

type Spans = Arc<Mutex<Vec<ExportedSpan>>>;

/// Starts an OTLP/HTTP collector that stores the spans of [`TRACE`]; returns its URL and the spans.
async fn collect() -> (String, Spans) {
    let spans = Spans::default();
    let app = Router::new().route("/v1/traces", post(store_spans)).with_state(spans.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, spans)
}

async fn store_spans(State(spans): State<Spans>, body: Bytes) -> StatusCode {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    for of_program in request.resource_spans {
        let attributes = of_program.resource.map(|resource| resource.attributes).unwrap_or_default();
        let name = attributes.into_iter().find(|attribute| attribute.key == "service.name");
        let program = format!("{:?}", name.and_then(|name| name.value).unwrap_or_default());
        for span in of_program.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            if hex(&span.trace_id) == TRACE {
                let (id, parent) = (hex(&span.span_id), hex(&span.parent_span_id));
                spans.lock().unwrap().push(ExportedSpan { program: program.clone(), name: span.name, id, parent });
            }
        }
    }
    StatusCode::OK
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[tokio::test]
async fn an_order_is_one_trace_from_the_request_to_the_last_consumer() {
    let (collector, spans) = collect().await;
    let world = World::new().await;
    let ssd_id = world.add_device().await;
    world.give_money(world.owner_of(ssd_id).await, 100_000).await;
    let mut settings = vec![
        ("DATABASE_URL", &*world.database.url),
        ("NATS_URL", &*world.nats.url),
        ("HTTP_SERVICE_PORT", "0"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
    ];
    for delay in ["SUPPLIER_DELAY_MIN", "SUPPLIER_DELAY_MAX", "DELIVERY_DELAY_MIN", "DELIVERY_DELAY_MAX"] {
        settings.push((delay, "300ms"));
    }
    let mut programs = BTreeMap::new();
    for name in ["users", "orders", "billing", "notifications"] {
        programs.insert(name, Program::start_with(env!("CARGO_BIN_EXE_off"), &["serve", name], &settings).await);
    }
    let orders = &programs["orders"].http;
    programs["orders"].health.wait_until_ready().await;

    let placed = orders
        .request(reqwest::Method::POST, "/api/orders")
        .header("traceparent", format!("00-{TRACE}-{CLIENT}-01"))
        .json(&json!({"ssd_id": ssd_id, "barcode": LENTILS, "quantity": 3}))
        .send()
        .await
        .unwrap();
    assert_eq!(placed.status(), reqwest::StatusCode::CREATED);

    let expected: BTreeSet<&str> = [
        "POST /api/orders",
        "publish.orders.pending",
        "billing-pending.orders.pending",
        "orders-paid.orders.paid",
        "supplier.orders.paid",
        "letters-paid.orders.paid",
        "due.orders.due",
        "delivery.orders.shipped",
        "billing-completed.orders.completed",
        "letters-completed.orders.completed",
        "orders-completed.orders.completed",
        "shelves-delivered.orders.completed",
    ]
    .into();
    // Programs export at different times, so a child may arrive before its parent.
    eventually("every span and its parent have arrived", || async {
        let spans = spans.lock().unwrap();
        let names: BTreeSet<&str> = spans.iter().map(|span| &*span.name).collect();
        let ids: BTreeSet<&str> = spans.iter().map(|span| &*span.id).chain([CLIENT]).collect();
        (expected.is_subset(&names) && spans.iter().all(|span| ids.contains(&*span.parent))).then_some(())
    })
    .await;

    let spans = spans.lock().unwrap().clone();
    let ids: BTreeSet<&str> = spans.iter().map(|span| &*span.id).collect();
    for span in &spans {
        let is_first = span.name == "POST /api/orders" && span.parent == CLIENT;
        assert!(is_first || ids.contains(&*span.parent), "{span:?} has no parent among {spans:#?}");
        let program = match span.name.split('.').next().unwrap() {
            "supplier" | "due" | "delivery" | "letters-paid" | "letters-completed" => "off-notifications",
            "shelves-delivered" => "off-users",
            "billing-pending" | "billing-completed" => "off-billing",
            _ => "off-orders",
        };
        assert!(span.program.contains(program), "{span:?} is not from {program}");
    }
    let waits = spans.iter().filter(|span| span.name == "due.orders.due").count();
    assert!(waits >= 2, "both waits are in the trace: {spans:#?}");
    for (_, program) in programs {
        assert!(program.terminate().await);
    }
    world.end().await;
}
