//! `deploy/nats/users.conf` allows each service exactly the subjects that off-events declares for it.

use off_events::{
    participants::{DEVICE, PARTICIPANTS},
    streams::{CONSUMERS, stream_of},
};
use std::{collections::BTreeSet, fs, path::Path};

/// The quoted texts of a list in `text` that follows `name`, like `publish: ["a", "b"]`.
fn list<'a>(text: &'a str, name: &str) -> BTreeSet<&'a str> {
    let (_, rest) = text.split_once(&format!("{name}: [")).unwrap();
    let (list, _) = rest.split_once(']').unwrap();
    list.split('"').skip(1).step_by(2).collect()
}

#[test]
fn each_service_may_publish_and_receive_what_is_declared() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/nats/users.conf");
    let conf = fs::read_to_string(file).unwrap();
    for participant in PARTICIPANTS.iter().filter(|participant| **participant != DEVICE) {
        let name = participant.name;
        let (_, user) = conf.split_once(&format!("user: {name},")).unwrap_or_else(|| panic!("there is no user {name}"));
        let (may_publish, may_subscribe) = (list(user, "publish"), list(user, "subscribe"));

        let is_of_off = |subject: &&str| !subject.starts_with(['$', '_']) && !subject.starts_with("dead.");
        let publishes: BTreeSet<&str> = may_publish.iter().copied().filter(is_of_off).collect();
        assert_eq!(publishes, participant.publishes.iter().copied().collect(), "{name} publishes");
        let subscribes: BTreeSet<&str> = may_subscribe.iter().copied().filter(is_of_off).collect();
        assert_eq!(subscribes, participant.subscribes.iter().copied().collect(), "{name} subscribes");

        let own: Vec<_> = CONSUMERS.iter().filter(|consumer| consumer.service == name).collect();
        let followed: BTreeSet<&str> =
            participant.follows.iter().filter_map(|subject| stream_of(subject)).map(|stream| stream.name).collect();
        let creates: BTreeSet<&str> =
            may_publish.iter().filter_map(|subject| subject.strip_prefix("$JS.API.CONSUMER.CREATE.")).collect();
        assert_eq!(creates, followed, "{name} follows");
        let pulls: BTreeSet<String> = may_publish
            .iter()
            .filter_map(|subject| subject.strip_prefix("$JS.API.CONSUMER.MSG.NEXT."))
            .filter(|consumer| !consumer.strip_suffix(".>").is_some_and(|stream| followed.contains(stream)))
            .map(str::to_owned)
            .collect();
        let declared: BTreeSet<String> =
            own.iter().map(|consumer| format!("{}.{}", consumer.stream, consumer.name)).collect();
        assert_eq!(pulls, declared, "{name} pulls");
        let dead: BTreeSet<String> = may_publish
            .iter()
            .filter(|subject| subject.starts_with("dead."))
            .map(|subject| (*subject).to_owned())
            .collect();
        assert_eq!(dead, own.iter().map(|consumer| consumer.dead_subject()).collect(), "{name} stores dead letters");
    }
}

#[test]
fn every_subject_that_a_service_publishes_is_in_a_stream_or_a_request() {
    for participant in PARTICIPANTS {
        for subject in participant.publishes {
            let requests = [off_events::ORDERS_RANDOM, off_events::ORDERS_NEW, off_events::ShipRequest::SUBJECT];
            let is_request = requests.contains(subject);
            assert!(is_request || stream_of(subject).is_some(), "{subject} of {} is in no stream", participant.name);
        }
    }
}
