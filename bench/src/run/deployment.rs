//! What is measured: `pregon standalone`, or a control plane and nodes over a Redis.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::bench::Bench;
use super::child::{self, Part};
use super::collector;
use super::redis::Redis;
use super::scenario::{Store, Sync, Telemetry};
use crate::proc;

/// The key that seals secrets of a deployment that lives for a minute.
const MASTER_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";
/// Receivers are on this machine and speak in clear.
const POLICY: [&str; 5] =
    ["--listen", "127.0.0.1:0", "--allow-http", "--allow-egress", "127.0.0.0/8"];

/// All processes of a deployment. They are killed when this is dropped.
#[derive(Debug)]
pub struct Deployment {
    /// Where configuration is written and books are read.
    pub api: SocketAddr,
    /// Where events are published: each node.
    pub targets: Vec<SocketAddr>,
    /// The Redis, if there is one.
    pub redis: Option<Redis>,
    /// The collector that it tells, if there is one.
    collector: Option<Part>,
    /// Directory of the store.
    store: PathBuf,
    /// The server, or nodes and control plane, in the order in which they are ended.
    servers: Vec<Part>,
}

/// What a deployment has used so far, without the CPU of Redis.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    /// CPU of server, or of nodes and control plane.
    pub server: Duration,
    /// CPU of Redis.
    pub redis: Duration,
    /// Bytes that all of it caused to be written to storage.
    pub written: u64,
    /// Bytes in the directory of the store.
    pub stored: u64,
}

impl Deployment {
    /// Starts what a store wants; `more` are arguments for the server or for each node.
    ///
    /// # Errors
    /// When a part does not start.
    pub async fn start(
        bench: &Bench<'_>,
        store: Store,
        telemetry: Telemetry,
        more: &[&str],
    ) -> anyhow::Result<Self> {
        let collector = match telemetry {
            Telemetry::Off => None,
            Telemetry::Sampled | Telemetry::Attempts => {
                Some(collector::start(&bench.args.otelcol, bench.directory).await?)
            }
        };
        let told = collector.as_ref().map(|collector| telemetry.environment(collector.address));
        let told = told.unwrap_or_default();
        let given = bench.args.pregon_arg.iter().map(String::as_str);
        let more: Vec<&str> = more.iter().copied().chain(given).collect();
        match store {
            Store::Embedded(args) => Self::embedded(bench, &[args, &more].concat(), &told).await,
            Store::Redis { sync, nodes } => Self::planes(bench, sync, nodes, &more, &told).await,
        }
        .map(|started| Self { collector, ..started })
    }

    async fn embedded(
        bench: &Bench<'_>,
        more: &[&str],
        told: &[(&str, String)],
    ) -> anyhow::Result<Self> {
        let store = bench.directory.join("store");
        let place = store.display().to_string();
        let args = words(&[&["standalone", "--data-dir", &place], &POLICY[..], more]);
        let server = Part::server(bench.pregon, bench.directory, "pregon", &args, told).await?;
        let (api, targets) = (server.address, vec![server.address]);
        Ok(Self { api, targets, redis: None, collector: None, store, servers: vec![server] })
    }

    async fn planes(
        bench: &Bench<'_>,
        sync: Sync,
        nodes: u16,
        more: &[&str],
        told: &[(&str, String)],
    ) -> anyhow::Result<Self> {
        let store = bench.directory.join("redis");
        let redis = Redis::start(&bench.args.redis_server, &store, sync).await?;
        let key_file = bench.directory.join("master.key");
        std::fs::write(&key_file, MASTER_KEY)?;
        let (url, key_file) = (format!("redis://{}/0", redis.part.address), path(&key_file));
        let reach = ["--redis-url", &url, "--durability", sync.durability()];
        child::once(bench.pregon, &words(&[&["init"], &reach])).await?;

        let shared = [&reach[..], &["--master-key-file", &key_file], &POLICY].concat();
        let args = words(&[&["control"], &shared]);
        let control = Part::server(bench.pregon, bench.directory, "control", &args, told).await?;
        let api = control.address;
        let (mut targets, mut servers) = (Vec::new(), Vec::new());
        for number in 1..=nodes {
            let name = format!("node-{number}");
            let args = words(&[&["dataplane"], &shared, &["--node-id", &name], more]);
            let node = Part::server(bench.pregon, bench.directory, &name, &args, told).await?;
            targets.push(node.address);
            servers.push(node);
        }
        servers.push(control);
        Ok(Self { api, targets, redis: Some(redis), collector: None, store, servers })
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// When one of its processes is gone.
    pub fn used(&self) -> anyhow::Result<Used> {
        let mut used = Used { stored: proc::directory_size(&self.store)?, ..Used::default() };
        for server in &self.servers {
            used.server += proc::cpu(server.pid)?;
            used.written += proc::written(server.pid)?;
        }
        if let Some(redis) = &self.redis {
            used.redis = proc::cpu(redis.part.pid)?;
            used.written += proc::written(redis.part.pid)?;
        }
        Ok(used)
    }

    /// Most memory that server, or nodes and control plane, held, in bytes.
    ///
    /// # Errors
    /// When one of them is gone.
    pub fn peak_memory(&self) -> anyhow::Result<u64> {
        self.servers.iter().map(|server| proc::peak_memory(server.pid)).sum()
    }

    /// Ends all of it; what did not end well.
    pub async fn stop(self) -> Vec<String> {
        let mut faults = Vec::new();
        for part in
            self.servers.into_iter().chain(self.redis.map(|redis| redis.part)).chain(self.collector)
        {
            if let Err(error) = part.stop().await {
                faults.push(format!("{error:#}"));
            }
        }
        faults
    }
}

fn words(parts: &[&[&str]]) -> Vec<String> {
    parts.iter().flat_map(|part| part.iter()).map(|word| (*word).to_owned()).collect()
}

fn path(path: &Path) -> String {
    path.display().to_string()
}
