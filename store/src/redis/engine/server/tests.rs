use super::*;

const INFO: &str = "# Server\r\nredis_version:7.0.15\r\n# Memory\r\nmaxmemory:0\r\n\
    maxmemory_policy:noeviction\r\n# Persistence\r\naof_enabled:0\r\n# Replication\r\n\
    role:master\r\nconnected_slaves:0\r\n# Cluster\r\ncluster_enabled:0\r\n";

/// The facts of a plain server with some lines said otherwise.
fn facts(changed: &[(&str, &str)], sync: Option<&str>) -> Facts {
    let info = changed
        .iter()
        .fold(INFO.to_owned(), |info, (line, other)| info.replace(line, &format!("{other}\r\n")));
    Facts::parse(&info, sync)
}

fn rule(facts: &Facts, durability: Durability) -> String {
    facts.promise(durability, 1).map(|_| ()).unwrap_err().to_string()
}

const AOF: (&str, &str) = ("aof_enabled:0", "aof_enabled:1");
const NEWER: (&str, &str) = ("redis_version:7.0.15", "redis_version:7.2.4");

#[test]
fn a_plain_server_promises_memory() {
    let promise = facts(&[], Some("everysec")).promise(Durability::Memory, 1).unwrap();
    assert_eq!(promise.confirm, Confirm::Nothing);
    assert_eq!(promise.max_memory, None);
}

#[test]
fn a_server_that_drops_keys_is_refused() {
    let evicting = facts(&[("maxmemory_policy:noeviction", "maxmemory_policy:allkeys-lru")], None);
    assert!(rule(&evicting, Durability::Memory).contains("allkeys-lru"));
}

#[test]
fn old_servers_replicas_and_clusters_are_refused() {
    let old = facts(&[("redis_version:7.0.15", "redis_version:6.2.14")], None);
    assert!(rule(&old, Durability::Memory).contains("7.0 or later"));
    let says = "server_name:valkey\r\nvalkey_version:7.0.1";
    let valkey = facts(&[("redis_version:7.0.15", says)], None);
    assert!(rule(&valkey, Durability::Memory).contains("7.2 or later"));
    let replica = facts(&[("role:master", "role:slave")], None);
    assert!(rule(&replica, Durability::Memory).contains("replica"));
    let cluster = facts(&[("cluster_enabled:0", "cluster_enabled:1")], None);
    assert!(rule(&cluster, Durability::Memory).contains("cluster"));
}

#[test]
fn fsync_wants_a_file_that_is_synced() {
    assert!(rule(&facts(&[], Some("always")), Durability::Fsync).contains("appendonly"));
    assert!(rule(&facts(&[AOF], Some("everysec")), Durability::Fsync).contains("always"));
    assert!(rule(&facts(&[AOF], None), Durability::Fsync).contains("does not tell"));
    let always = facts(&[AOF], Some("always")).promise(Durability::Fsync, 1).unwrap();
    assert_eq!(always.confirm, Confirm::Nothing);
    assert!(rule(&facts(&[AOF, NEWER], Some("no")), Durability::Fsync).contains("everysec"));
    for sync in [Some("everysec"), None] {
        let newer = facts(&[AOF, NEWER], sync).promise(Durability::Fsync, 1).unwrap();
        assert_eq!(newer.confirm, Confirm::Disk, "a newer one can wait");
    }
}

#[test]
fn replicated_wants_replicas_that_are_connected() {
    let two = "connected_slaves:2\r\nslave0:ip=a,port=1,state=online\r\n\
        slave1:ip=b,port=1,state=wait_bgsave";
    let one = facts(&[("connected_slaves:0", two)], None);
    assert_eq!(one.promise(Durability::Replicated, 1).unwrap().confirm, Confirm::Replicas(1));
    let refused = one.promise(Durability::Replicated, 2).unwrap_err().to_string();
    assert!(refused.contains("2 connected replicas") && refused.contains("has 1"), "{refused}");
}

#[test]
fn a_confirmation_that_comes_too_early_is_not_believed() {
    let valkey = ("redis_version:7.0.15", "server_name:valkey\r\nvalkey_version:9.1.2");
    for (version, sync, early, believed) in [
        (NEWER, Some("everysec"), false, true),
        (NEWER, Some("everysec"), true, false),
        (NEWER, None, true, true),
        (valkey, Some("everysec"), false, true),
        (valkey, Some("everysec"), true, false),
        (valkey, None, false, true),
        (valkey, None, true, false),
    ] {
        let answer = facts(&[AOF, version], sync).is_believed(early);
        assert_eq!(answer.is_ok(), believed, "{version:?} {sync:?} {early}: {answer:?}");
    }
}

#[test]
fn a_file_that_is_not_synced_while_it_is_rewritten_is_no_promise() {
    for sync in ["always", "everysec"] {
        let pauses = Facts { pauses: true, ..facts(&[AOF, NEWER], Some(sync)) };
        assert!(rule(&pauses, Durability::Fsync).contains("no-appendfsync-on-rewrite"));
        assert!(pauses.promise(Durability::Memory, 1).is_ok());
    }
}
