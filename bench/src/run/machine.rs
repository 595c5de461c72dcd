//! On what a run was measured: without it no figure can be compared.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use anyhow::Context;
use serde::Serialize;
use tokio::process::Command;

use crate::histogram::{Histogram, Summary};

/// How often the disk is asked to make a page durable.
const SYNCS: usize = 200;

/// Facts about machine, system and programs.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Cores that may be used.
    pub cores: usize,
    /// What they are.
    pub cpu: String,
    /// Kernel.
    pub kernel: String,
    /// Memory in GiB.
    pub memory_gib: u64,
    /// File system of the store.
    pub file_system: String,
    /// How long it takes there to append 4 KiB and make them durable.
    pub fsync: Summary,
    /// Processes running or waiting to run, on average of the minute before.
    pub load_average: String,
    /// Compiler of the benchmarks.
    pub rustc: String,
    /// Whether the benchmarks are built for speed.
    pub optimised: bool,
    /// What the server says of itself.
    pub server: String,
}

impl Machine {
    /// Looks around.
    ///
    /// # Errors
    /// When the directory cannot be written or the server does not run.
    pub async fn look(directory: &Path, pregon: &Path) -> anyhow::Result<Self> {
        let mut version = Command::new(pregon);
        version.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
        let output = version.output().await;
        let output = output.with_context(|| format!("cannot run {}", pregon.display()))?;
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let load_average = read("/proc/loadavg");
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            cpu: field(&read("/proc/cpuinfo"), "model name"),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_gib: field(&read("/proc/meminfo"), "MemTotal")
                .trim_end_matches(" kB")
                .parse::<u64>()
                .map_or(0, |kib| (kib + 512 * 1024) / (1024 * 1024)),
            file_system: file_system(&read("/proc/self/mountinfo"), &directory.canonicalize()?),
            fsync: fsync(directory)?,
            load_average: load_average.split(' ').next().unwrap_or_default().to_owned(),
            rustc: env!("PREGON_BENCH_RUSTC").to_owned(),
            optimised: !cfg!(debug_assertions),
            server: String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        })
    }
}

/// The value of a line `name : value`.
fn field(text: &str, name: &str) -> String {
    let value = text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    });
    value.unwrap_or_else(|| "unknown".to_owned())
}

/// Type of the file system that a path is on: that of the longest mount point above it.
fn file_system(mounts: &str, path: &Path) -> String {
    let mount = mounts.lines().filter_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?;
        path.starts_with(point).then_some((point.len(), file_system.split(' ').next()?))
    });
    mount.max_by_key(|(len, _)| *len).map_or("unknown", |(_, kind)| kind).to_owned()
}

fn fsync(directory: &Path) -> anyhow::Result<Summary> {
    let path = directory.join("fsync");
    let mut file = File::create(&path)?;
    let histogram = Histogram::default();
    for _ in 0..SYNCS {
        let start = Instant::now();
        file.write_all(&[1; 4096])?;
        file.sync_data()?;
        histogram.record(start.elapsed());
    }
    fs::remove_file(path)?;
    Ok(histogram.summary())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_mount_point_counts() {
        let mounts =
            "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:5 / /tmp rw shared:1 - tmpfs none rw\n";
        assert_eq!(file_system(mounts, Path::new("/tmp/x")), "tmpfs");
        assert_eq!(file_system(mounts, Path::new("/tmpx")), "ext4");
        assert_eq!(file_system("", Path::new("/")), "unknown");
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "model\t\t: 2\nmodel name\t: CPU 9: fast\n";
        assert_eq!(field(text, "model name"), "CPU 9: fast");
        assert_eq!(field(text, "flags"), "unknown");
    }
}
