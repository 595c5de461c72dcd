//! What a story may ask of a Pregón, whether that is one process or many.
//!
//! A story that takes any `World` runs on each of them by [`on_both`](crate::on_both).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use super::load::Target;
use super::planes::{Plan, Plane, Planes};
use super::redis::Keep;
use super::{Grpcurl, Standalone};

/// A Pregón that can be ended and started again.
pub trait World: Sized {
    /// Nodes that deliver.
    const NODES: usize;

    /// Starts one that forgets everything with its end.
    async fn in_memory() -> Self;

    /// Starts one that acknowledges what is on disk, its nodes with these settings.
    async fn on_disk(node: &[&str]) -> Self;

    /// Starts one that knows the tokens of a file.
    async fn guarded(tokens: &Path) -> Self;

    /// Starts one that forgets everything with its end, all its processes with these settings.
    async fn set_up(all: &[&str]) -> Self;

    /// Starts one that acknowledges what is on disk, all its processes with these settings.
    async fn lasting(all: &[&str]) -> Self;

    /// grpcurl to it.
    fn grpcurl(&self) -> Grpcurl;

    /// The key file of each process.
    fn key_files(&self) -> Vec<PathBuf>;

    /// Where management is served.
    fn management(&self) -> SocketAddr;

    /// Where events are taken: each node.
    fn events(&self) -> Vec<SocketAddr>;

    /// What its processes have said.
    fn output(&self) -> String;

    /// Memory of the process at an address that is resident, in bytes.
    fn resident(&self, addr: SocketAddr) -> u64;

    /// Cuts its processes off with SIGKILL.
    async fn kill(&mut self);

    /// Asks its processes to end.
    async fn terminate(&mut self);

    /// Waits for the end of all; how the worst of them ended.
    async fn exit(&mut self, bound: Duration) -> ExitStatus;

    /// Starts its processes again, on other ports, with what was kept.
    async fn start_again(&mut self);

    /// The bytes of everything that its store has on disk, once it has ended; keys that lie beside it are
    /// not its.
    async fn kept(&mut self) -> Vec<u8>;

    /// A publisher's way to it.
    fn target(&self) -> Target {
        Target::new(self.events())
    }
}

/// What is in the files below a directory, one behind another, but for keys.
fn bytes_below(directory: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            bytes.append(&mut bytes_below(&path));
        } else if path.extension().is_none_or(|it| it != "key") {
            bytes.append(&mut std::fs::read(&path).expect("a file can be read"));
        }
    }
    bytes
}

impl World for Standalone {
    const NODES: usize = 1;

    async fn in_memory() -> Self {
        Standalone::in_memory().await
    }

    async fn on_disk(node: &[&str]) -> Self {
        Standalone::on_disk(node).await
    }

    async fn guarded(tokens: &Path) -> Self {
        let file = tokens.display().to_string();
        Standalone::start(&["--in-memory", "--tokens-file", &file], None).await
    }

    async fn set_up(all: &[&str]) -> Self {
        Standalone::start(&[&["--in-memory"], all].concat(), None).await
    }

    async fn lasting(all: &[&str]) -> Self {
        Standalone::on_disk(all).await
    }

    fn grpcurl(&self) -> Grpcurl {
        Standalone::grpcurl(self)
    }

    fn key_files(&self) -> Vec<PathBuf> {
        vec![self.dir().join("master.key")]
    }

    fn management(&self) -> SocketAddr {
        self.addr()
    }

    fn events(&self) -> Vec<SocketAddr> {
        vec![self.addr()]
    }

    fn output(&self) -> String {
        Standalone::output(self)
    }

    fn resident(&self, _: SocketAddr) -> u64 {
        Standalone::resident(self)
    }

    async fn kill(&mut self) {
        Standalone::kill(self).await;
    }

    async fn terminate(&mut self) {
        Standalone::terminate(self).await;
    }

    async fn exit(&mut self, bound: Duration) -> ExitStatus {
        Standalone::exit(self, bound).await
    }

    async fn start_again(&mut self) {
        Standalone::start_again(self).await;
    }

    async fn kept(&mut self) -> Vec<u8> {
        bytes_below(self.dir())
    }
}

impl World for Planes {
    const NODES: usize = 2;

    async fn in_memory() -> Self {
        Planes::start(Plan { nodes: Self::NODES, ..Plan::default() }).await
    }

    async fn on_disk(node: &[&str]) -> Self {
        let plan = Plan { nodes: Self::NODES, keep: Keep::Always, node, ..Plan::default() };
        Planes::start(plan).await
    }

    async fn guarded(tokens: &Path) -> Self {
        let file = tokens.display().to_string();
        let all = &["--tokens-file", &file];
        Planes::start(Plan { nodes: Self::NODES, all, ..Plan::default() }).await
    }

    async fn set_up(all: &[&str]) -> Self {
        Planes::start(Plan { nodes: Self::NODES, all, ..Plan::default() }).await
    }

    async fn lasting(all: &[&str]) -> Self {
        let plan = Plan { nodes: Self::NODES, keep: Keep::Always, all, ..Plan::default() };
        Planes::start(plan).await
    }

    fn grpcurl(&self) -> Grpcurl {
        Planes::grpcurl(self)
    }

    fn key_files(&self) -> Vec<PathBuf> {
        std::iter::once(&self.control).chain(&self.nodes).map(Plane::key_file).collect()
    }

    fn management(&self) -> SocketAddr {
        self.control.addr()
    }

    fn events(&self) -> Vec<SocketAddr> {
        Planes::events(self)
    }

    fn output(&self) -> String {
        Planes::output(self)
    }

    fn resident(&self, addr: SocketAddr) -> u64 {
        Planes::resident(self, addr)
    }

    async fn kill(&mut self) {
        for plane in self.every() {
            plane.kill().await;
        }
    }

    async fn terminate(&mut self) {
        for plane in self.every() {
            plane.terminate().await;
        }
    }

    async fn exit(&mut self, bound: Duration) -> ExitStatus {
        let mut worst = ExitStatus::default();
        for plane in self.every() {
            let status = plane.exit(bound).await;
            worst = if status.success() { worst } else { status };
        }
        worst
    }

    async fn start_again(&mut self) {
        for plane in self.every() {
            plane.start_again().await;
        }
    }

    async fn kept(&mut self) -> Vec<u8> {
        self.redis.stop().await;
        bytes_below(self.redis.directory())
    }
}

/// Runs stories on one process and on planes: `on_both!(story, …)`, after `multi_thread` for those
/// whose own load wants two threads.
#[macro_export]
macro_rules! on_both {
    (multi_thread: $($story:ident),+ $(,)?) => {
        $crate::on_both!(@ (flavor = "multi_thread", worker_threads = 2) $($story)+);
    };
    ($($story:ident),+ $(,)?) => {
        $crate::on_both!(@ (flavor = "current_thread") $($story)+);
    };
    (@ $how:tt $($story:ident)+) => {
        mod standalone {
            $($crate::on_both!(# $how $story $crate::harness::Standalone);)+
        }
        mod planes {
            $($crate::on_both!(# $how $story $crate::harness::Planes);)+
        }
    };
    (# ($($how:tt)+) $story:ident $world:path) => {
        #[tokio::test($($how)+)]
        async fn $story() {
            // On the heap: stories keep much across their waits.
            Box::pin(super::$story::<$world>()).await;
        }
    };
}
