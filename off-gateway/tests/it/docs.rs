//! One Swagger UI for all documents.

use crate::Gate;
use serde_json::json;

#[tokio::test]
async fn one_page_shows_the_documents_of_all_services() {
    let gate = Gate::start().await;
    let http = gate.http().anonymous();
    let page = http.get("/docs/").await;
    assert!(page.body.as_str().unwrap().contains("swagger-ui"));
    assert!(page.header("content-security-policy").starts_with("default-src 'self';"));
    let script = http.get("/docs/swagger-initializer.js").await.body.to_string();
    for name in ["auth", "users", "orders", "billing", "notifications", "gateway"] {
        let path = format!("/docs/openapi/{name}.json");
        assert!(script.contains(&path), "{script}");
        let document = http.get(&path).await;
        assert_eq!((document.status.as_u16(), &document.body["servers"]), (200, &json!([{"url": "/"}])), "{name}");
        assert!(document.body["paths"].get("/readyz").is_none(), "the health port is not public");
        // The gateway may answer any request itself.
        for (path, item) in document.body["paths"].as_object().unwrap() {
            let operations = ["get", "post", "put", "delete"].into_iter().filter_map(|method| item.get(method));
            for operation in operations {
                for status in ["400", "408", "413", "429", "502", "503", "504"] {
                    assert!(operation["responses"].get(status).is_some(), "{name}: {path}: {status}");
                }
            }
        }
    }
    assert!(http.get("/docs/openapi/users.json").await.body["paths"].get("/api/x").is_some());
    assert!(http.get("/docs/openapi/gateway.json").await.body["paths"].get("/client/health/").is_some());
    assert_eq!(http.get("/docs/openapi/postgres.json").await.status, 404);

    gate.upstream.kill();
    assert_eq!(http.get("/docs/openapi/users.json").await.status, 200, "it is kept for a while");
    gate.end().await;
}
