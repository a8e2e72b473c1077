//! A story with a real service behind the gateway.

use crate::{config, start_gateway, upstream::Upstream};
use off_kit::Clock;
use off_testkit::{Running, World};
use off_users_service::UsersService;
use serde_json::json;

#[tokio::test]
async fn a_person_registers_and_reads_their_own_data_only() {
    let world = World::new().await;
    let users_config = off_users_service::Config {
        db: world.db_config(),
        bus: world.bus_config(),
        auth_url: "http://127.0.0.1:1".parse().unwrap(),
    };
    let users = Running::start_ready::<UsersService>(users_config, Clock::real(1.0)).await;
    let others = Upstream::start().await;
    let mut config = config(&world.nats, &others.url);
    config.services.users_url = users.http.base().parse().unwrap();
    let gateway = start_gateway(config, Clock::real(1.0)).await;

    let register = async |email: &str, mac: &str| {
        let user =
            json!({"first_name": "Ada", "last_name": "Example", "email": email, "password": "correct horse battery"});
        let person = json!({"user": user, "devices": [{"mac_address": mac}]});
        let answer = gateway.http.anonymous().post("/api/register", &person).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.header("location").rsplit('/').next().unwrap().parse::<i64>().unwrap()
    };
    let (ada, bob) = (
        register("ada@example.org", "02:00:00:00:00:01").await,
        register("bob@example.org", "02:00:00:00:00:02").await,
    );
    let person = gateway.http.as_person(ada);
    let own = person.get(&format!("/api/users/{ada}")).await;
    assert_eq!((own.status.as_u16(), own.body["email"].as_str().unwrap()), (200, "ada@example.org"));

    // Somebody else looks like nobody, at the gateway and at the service.
    for unknown in [bob, 999_999] {
        let at_gateway = person.get(&format!("/api/users/{unknown}")).await;
        let at_service = users.http.as_person(ada).get(&format!("/api/users/{unknown}")).await;
        let (gate, service) = (&at_gateway.body, &at_service.body);
        assert_eq!(at_gateway.status, 404);
        for member in ["type", "title", "status", "code", "detail"] {
            assert_eq!(gate[member], service[member], "{member}");
        }
    }
    gateway.stop().await;
    world.end_after(vec![users], &[]).await;
}
