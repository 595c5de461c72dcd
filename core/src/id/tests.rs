use proptest::prelude::*;

use super::*;

#[test]
fn ids_know_their_alphabet_and_length() {
    assert!(TenantId::parse("acme-1_X").is_ok());
    assert_eq!(TenantId::parse("").unwrap_err().rule, Rule::Required);
    for bad in ["a/b", "a.b", "á", "{x}", &"a".repeat(65)] {
        assert_eq!(TenantId::parse(bad).unwrap_err().rule, Rule::Malformed, "{bad}");
    }
    for good in ["order", "order.captured", "order.liveness.fail", "a-b.c_d", "crypto_tx_sent"] {
        assert!(EventTypeId::parse(good).is_ok(), "{good}");
    }
    for bad in [".a", "a.", "a..b", "a.*", "a-", "a b", &"a".repeat(129)] {
        assert!(EventTypeId::parse(bad).is_err(), "{bad}");
    }
    for bad in ["a.b", "a@1", "{a}", "a/b", &"a".repeat(129)] {
        assert!(EventId::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn names_are_read_whole_or_not_at_all() {
    let secret = SecretName::parse("tenants/a/subscriptions/b/secrets/c").unwrap();
    assert_eq!(secret.to_string(), "tenants/a/subscriptions/b/secrets/c");
    for bad in
        ["tenants/a", "tenants/a/subscriptions/b/secrets/c/d", "tenants/a/subscription/b/secrets/c"]
    {
        assert!(SecretName::parse(bad).is_err(), "{bad}");
    }
    let event = EventName::parse("tenants/a/events/b@7").unwrap();
    assert_eq!((event.version, event.to_string().as_str()), (7, "tenants/a/events/b@7"));
    for bad in [
        "tenants/a/events/b@0",
        "tenants/a/events/b@07",
        "tenants/a/events/b@",
        "tenants/a/events/b@x",
    ] {
        assert!(EventName::parse(bad).is_err(), "{bad}");
    }
    assert!(AttemptName::parse("tenants/a/deliveries/x/attempts/1").is_err());
}

#[test]
fn a_given_id_may_not_look_assigned() {
    let assigned = EventId::assigned(Position { ms: 1_790_000_000_000, partition: 3, n: 99 });
    assert!(EventId::parse_given(assigned.as_str()).is_err());
    assert!(EventId::parse_given("pg_short").is_ok());
}

proptest! {
    #[test]
    fn positions_and_delivery_ids_round_trip(
        ms in 0u64..1 << 48, partition in 0u16..4096, n in 0u64..1 << 40,
        lane: u64, replay: Option<[u8; 5]>,
    ) {
        let position = Position { ms, partition, n };
        prop_assert_eq!(position.to_string().parse::<Position>().unwrap(), position);
        prop_assert_eq!(EventId::assigned(position).position(), Some(position));
        let key = DeliveryKey { position, lane: LaneNo(lane), replay: replay.map(ReplayTag::from_bits) };
        prop_assert_eq!(key.to_string().parse::<DeliveryKey>().unwrap(), key);
    }

    #[test]
    fn positions_sort_as_their_text(a in 0u64..1 << 48, b in 0u64..1 << 48, n in 0u64..1 << 40) {
        let (x, y) = (Position { ms: a, partition: 0, n }, Position { ms: b, partition: 0, n });
        prop_assert_eq!(x.cmp(&y), x.to_string().cmp(&y.to_string()));
    }
}
