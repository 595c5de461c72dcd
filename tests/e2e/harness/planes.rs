//! `pregon control` and nodes of `pregon dataplane` over a Redis of their own: the same stories, in
//! several processes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::process::Process;
use super::redis::{Keep, Redis};
use super::switch::Switch;
use super::telling::Env;
use super::{Grpcurl, eventually};

/// The byte that a deployment's first master key is made of.
pub const FIRST_KEY: &str = "42";
/// The setting that names a process's key file.
const KEY_FILE: &str = "--master-key-file";

/// What a story wants of its planes.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// Nodes.
    pub nodes: usize,
    /// What Redis keeps: with [`Keep::Always`] and [`Keep::Confirmed`] acknowledged means on disk,
    /// otherwise in memory.
    pub keep: Keep,
    /// What leads to Redis, which can lead to another one; none: its own address.
    pub through: Option<&'a Switch>,
    /// Settings of every node.
    pub node: &'a [&'a str],
    /// Settings of control and of every node.
    pub all: &'a [&'a str],
    /// What is in the environment of control and of every node; none: nothing.
    pub env: Option<&'a Env>,
    /// What is in that of control instead.
    pub control_env: Option<&'a Env>,
    /// What is in that of every node instead.
    pub node_env: Option<&'a Env>,
}

impl Default for Plan<'_> {
    fn default() -> Self {
        Self {
            nodes: 2,
            keep: Keep::Nothing,
            through: None,
            node: &[],
            all: &[],
            env: None,
            control_env: None,
            node_env: None,
        }
    }
}

/// A control plane, nodes, and their Redis.
#[derive(Debug)]
pub struct Planes {
    /// The control plane.
    pub control: Plane,
    /// The nodes, `n0` and so on.
    pub nodes: Vec<Plane>,
    /// Their Redis. After them, so that it ends last.
    pub redis: Redis,
    _dir: TempDir,
}

/// One process of several.
#[derive(Debug)]
pub struct Plane {
    process: Process,
    addr: SocketAddr,
    args: Vec<String>,
    env: Env,
}

impl Planes {
    /// Sets a Redis up, and starts control and nodes on it; returns when all nodes are ready.
    pub async fn start(plan: Plan<'_>) -> Self {
        let redis = Redis::start(plan.keep).await;
        let dir = tempfile::tempdir().expect("a temporary directory");
        // The secrets of tests are no secrets. Each process has a key file of its own.
        let key_file = |of: &str| {
            let file = dir.path().join(format!("{of}.key"));
            std::fs::write(&file, FIRST_KEY.repeat(32)).expect("a file can be written");
            file.display().to_string()
        };
        let durability = match plan.keep {
            Keep::Always | Keep::Confirmed => "fsync",
            Keep::Nothing | Keep::EverySecond => "memory",
        };
        let url = plan.through.map_or_else(|| redis.url(), |switch| switch.lead_to(redis.port()));
        let store = ["--redis-url", &url, "--durability", durability];
        let (status, output) = Process::run(&[&["init"], &store[..]].concat(), &[]).await;
        assert!(status.success(), "{output}");

        let usual = ["--listen", "127.0.0.1:0", "--allow-http"];
        let loopback = ["--allow-egress", "127.0.0.0/8"];
        let all = [&store[..], &usual, &loopback, plan.all].concat();
        let env = |own: Option<&Env>| own.or(plan.env).cloned().unwrap_or_default();
        let control_env = env(plan.control_env);
        let file = key_file("control");
        let args = [&["control", KEY_FILE, &file], &all[..]].concat();
        let control = Plane::start(&args, &control_env).await;
        let mut nodes = Vec::with_capacity(plan.nodes);
        for n in 0..plan.nodes {
            let id = format!("n{n}");
            let file = key_file(&id);
            let own = ["--node-id", &id, KEY_FILE, &file];
            let args = [&["dataplane"], &all[..], &own, plan.node].concat();
            nodes.push(Plane::start(&args, &env(plan.node_env)).await);
        }
        let planes = Self { control, nodes, redis, _dir: dir };
        // Callers who need a token look for themselves.
        if !plan.all.contains(&"--tokens-file") {
            planes.ready(plan.nodes).await;
        }
        planes
    }

    /// Waits until so many nodes are READY.
    pub async fn ready(&self, count: usize) {
        let grpc = self.grpcurl();
        eventually(&format!("{count} nodes are ready"), || async {
            let states = node_states(&grpc).await;
            let ready = states.iter().filter(|(_, state)| state == "READY").count();
            if ready == count { Ok(()) } else { Err(states) }
        })
        .await;
    }

    /// grpcurl to control; what it publishes goes to the nodes by turns.
    pub fn grpcurl(&self) -> Grpcurl {
        Grpcurl::new(self.control.addr).publishing_to(&self.events())
    }

    /// Where events are taken.
    pub fn events(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.addr).collect()
    }

    /// Memory of the process at an address that is resident, in bytes.
    ///
    /// # Panics
    ///
    /// When no process is there.
    pub fn resident(&self, addr: SocketAddr) -> u64 {
        let plane = self.nodes.iter().chain([&self.control]).find(|plane| plane.addr == addr);
        plane.expect("a process at this address").process.resident()
    }

    /// Every process of ours; not Redis.
    pub fn every(&mut self) -> impl Iterator<Item = &mut Plane> {
        std::iter::once(&mut self.control).chain(&mut self.nodes)
    }

    /// Another control plane beside the first, with a key file of its own.
    pub async fn another_control(&self, key_file: &Path) -> Plane {
        let mut args: Vec<_> = self.control.args.iter().map(String::as_str).collect();
        let place = args.iter().position(|arg| *arg == KEY_FILE).expect("it has a key file");
        let file = key_file.display().to_string();
        args[place + 1] = &file;
        Plane::start(&args, &self.control.env).await
    }

    /// What all of them have said.
    pub fn output(&self) -> String {
        let all = std::iter::once(&self.control).chain(&self.nodes);
        all.map(Plane::output).collect::<Vec<_>>().join("\n")
    }
}

impl Plane {
    async fn start(args: &[&str], env: &Env) -> Self {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let (process, addr) = launch(&args, env).await;
        Self { process, addr, args, env: env.clone() }
    }

    /// Where it serves gRPC.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its key file.
    pub fn key_file(&self) -> PathBuf {
        let mut args = self.args.iter().skip_while(|arg| *arg != KEY_FILE);
        args.nth(1).expect("it has a key file").into()
    }

    /// What it has said since it was last started.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Cuts it off with SIGKILL.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Asks it to end.
    pub async fn terminate(&self) {
        self.process.terminate().await;
    }

    /// Stops it where it is, as a machine that hangs, or lets it go on.
    pub async fn signal(&self, name: &str) {
        self.process.signal(name).await;
    }

    /// Waits for its end.
    pub async fn exit(&mut self, bound: Duration) -> ExitStatus {
        self.process.exit(bound).await
    }

    /// Starts it again, on another port.
    pub async fn start_again(&mut self) {
        (self.process, self.addr) = launch(&self.args, &self.env).await;
    }
}

async fn launch(args: &[String], env: &Env) -> (Process, SocketAddr) {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut process = Process::pregon(&args, &env.pairs());
    let addr = process.address().await;
    (process, addr)
}

/// The nodes that control knows of, with the state of each.
pub async fn node_states(grpc: &Grpcurl) -> Vec<(String, String)> {
    let Ok(list) = grpc.call("NodeService/ListNodes", json!({})).await else { return Vec::new() };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let nodes = list["nodes"].as_array().expect("a list").iter();
    let state = |node: &Value| text(&node["state"]).replace("NODE_STATE_", "");
    nodes.map(|node| (text(&node["name"]), state(node))).collect()
}
