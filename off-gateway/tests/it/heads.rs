//! Requests whose head is a trick. They are sent as text, because no client library would send them.

use crate::Gate;
use off_testkit::tokens;

/// The head of a request with the token of an operator, which would otherwise pass.
fn head(line: &str, headers: &str) -> String {
    let token = tokens::test_client();
    format!("{line} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\nconnection: close\r\n{headers}\r\n")
}

fn status(answer: &str) -> &str {
    answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).unwrap_or(answer)
}

#[tokio::test]
async fn a_path_that_could_be_read_in_two_ways_reaches_no_service() {
    let gate = Gate::start().await;
    for path in [
        "//api/orders",
        "/api//orders",
        "/api/../metrics",
        "/api/orders/../users/1",
        "/api/orders/..",
        "/api/./orders",
        "/api/orders/%2e%2e/users",
        "/api/users%2f1",
        "/api/orders%5c..",
        "/api/orders\\x",
        "/api/orders/%00",
        "/api/orders/%",
        "/api/orders/\u{e9}",
    ] {
        let answer = gate.send_raw(&head(&format!("GET {path}"), "")).await;
        assert_eq!(status(&answer), "400", "{path}: {answer}");
    }
    for path in ["/metrics", "/readyz", "/livez", "/api", "/api/unknown", "/API/orders", "/api/ordersx"] {
        let answer = gate.send_raw(&head(&format!("GET {path}"), "")).await;
        assert_eq!(status(&answer), "404", "{path}: {answer}");
    }
    assert_eq!(gate.upstream.paths(), [""; 0]);
    assert_eq!(status(&gate.send_raw(&head("GET /api/orders/a%20b?x=%2F..%2F", "")).await), "200");
    assert_eq!(gate.upstream.paths(), ["GET /api/orders/a%20b?x=%2F..%2F"]);
    gate.end().await;
}

#[tokio::test]
async fn no_request_hides_in_another_one() {
    let gate = Gate::start().await;
    let hidden = "GET /api/orders/hidden HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let chunked = format!("0\r\n\r\n{hidden}");
    let keep = |headers: &str| head("POST /api/orders", headers).replace("connection: close\r\n", "");
    // Each is refused, or its body ends where the service sees it end, and the connection with it.
    for (name, headers, body, expected) in [
        ("two lengths", "content-length: 4\r\ncontent-length: 60\r\n", hidden.to_owned(), "400"),
        ("a list of lengths", "content-length: 4, 60\r\n", hidden.to_owned(), "400"),
        ("a signed length", "content-length: +4\r\n", hidden.to_owned(), "400"),
        ("another coding", "transfer-encoding: gzip, chunked\r\n", chunked.clone(), "400"),
        ("chunked twice", "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", chunked.clone(), "400"),
        ("an unknown coding", "transfer-encoding: xchunked\r\n", chunked.clone(), "400"),
        ("a space before the colon", "transfer-encoding : chunked\r\n", chunked.clone(), "400"),
        ("a folded line", "x-a: b\r\n c\r\ncontent-length: 0\r\n", String::new(), "400"),
        ("coding and length", "transfer-encoding: chunked\r\ncontent-length: 5\r\n", chunked.clone(), "200"),
        ("length and coding", "content-length: 5\r\ntransfer-encoding: chunked\r\n", chunked, "200"),
    ] {
        let answer = gate.send_raw(&format!("{}{body}", keep(headers))).await;
        assert_eq!(status(&answer), expected, "{name}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{name}: {answer}");
    }
    assert_eq!(gate.upstream.paths(), ["POST /api/orders", "POST /api/orders"]);
    gate.end().await;
}

#[tokio::test]
async fn an_ambiguous_or_oversized_head_is_refused() {
    let gate = Gate::start().await;
    let huge = format!("x-huge: {}\r\n", "x".repeat(64 * 1024));
    let in_one_write = |bytes| format!("x-large: {}\r\n", "x".repeat(bytes));
    let many = "x-many: 1\r\n".repeat(200);
    for (name, text, expected) in [
        ("two hosts", head("GET /api/orders", "host: localhost\r\n"), "400"),
        ("no host", head("GET /api/orders", "").replace("host: localhost\r\n", ""), "400"),
        ("another host in the target", head("GET http://127.0.0.1/api/orders", ""), "400"),
        ("two tokens", head("GET /api/orders", "authorization: Bearer x\r\n"), "400"),
        ("an unknown host", head("GET /api/orders", "").replace("localhost", "evil.example"), "421"),
        ("a huge head", head("GET /api/orders", &huge), "431"),
        ("a large head in one write", head("GET /api/orders", &in_one_write(40_000)), "431"),
        ("a large target in one write", head(&format!("GET /api/orders?x={}", "x".repeat(40_000)), ""), "431"),
        ("many headers", head("GET /api/orders", &many), "431"),
        ("TRACE", head("TRACE /api/orders", ""), "405"),
        ("an invented method", head("BREW /api/orders", ""), "405"),
        ("CONNECT", head("CONNECT 127.0.0.1:22", ""), "400"),
    ] {
        let answer = gate.send_raw(&text).await;
        assert_eq!(status(&answer), expected, "{name}: {answer}");
    }
    assert_eq!(gate.upstream.paths(), [""; 0]);
    assert_eq!(status(&gate.send_raw(&head("GET http://localhost/api/orders", "")).await), "200");
    assert_eq!(status(&gate.send_raw(&head("GET /api/orders", &in_one_write(30_000))).await), "200");
    gate.end().await;
}
