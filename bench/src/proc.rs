//! What the kernel says about processes and the machine: CPU, bytes written, files.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

/// CPU that this process has taken, all threads, user and system.
///
/// # Errors
/// Where there is no /proc.
pub fn own_cpu() -> anyhow::Result<Duration> {
    cpu_of("self")
}

/// CPU that a process has taken, all threads, user and system; to within a tick, 10 ms.
///
/// # Errors
/// When there is no such process.
pub fn cpu(pid: u32) -> anyhow::Result<Duration> {
    cpu_of(&pid.to_string())
}

fn cpu_of(pid: &str) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} is gone"))?;
    let ticks = stat_ticks(&stat).with_context(|| format!("/proc/{pid}/stat reads {stat:?}"))?;
    Ok(Duration::from_secs(ticks) / ticks_per_second())
}

/// utime and stime, the 14th and 15th field; the second, in brackets, may contain anything.
fn stat_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn ticks_per_second() -> u32 {
    u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100)
}

/// CPU that everything on the machine has taken since it started, hypervisor's share included.
///
/// # Errors
/// Where there is no /proc.
pub fn machine_cpu() -> anyhow::Result<Duration> {
    let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let fields: Vec<u64> =
        line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; what follows is counted in user already.
    let busy: u64 = fields.iter().take(3).chain(fields.iter().skip(5).take(3)).sum();
    Ok(Duration::from_secs(busy) / ticks_per_second())
}

/// Bytes that a process has caused to be written to storage.
///
/// # Errors
/// When there is no such process.
pub fn written(pid: u32) -> anyhow::Result<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io"))
        .with_context(|| format!("process {pid} is gone"))?;
    let bytes = io.lines().find_map(|line| line.strip_prefix("write_bytes:")?.trim().parse().ok());
    bytes.with_context(|| format!("/proc/{pid}/io reads {io:?}"))
}

/// Bytes of memory that a process holds at most so far.
///
/// # Errors
/// When there is no such process.
pub fn peak_memory(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} is gone"))?;
    let kib = status.lines().find_map(|line| {
        line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    Ok(kib.with_context(|| format!("no VmHWM in /proc/{pid}/status"))? * 1024)
}

/// Bytes of all files in a directory and below, as long as they are.
///
/// # Errors
/// When the directory cannot be read. What is not there, or vanishes meanwhile, has no size.
pub fn directory_size(directory: &Path) -> io::Result<u64> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut size = 0;
    for entry in entries {
        let entry = entry?;
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size += directory_size(&entry.path())?,
            Ok(metadata) => size += metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_shift_the_fields() {
        let stat = "7 (a) b) R 1 7 7 0 -1 4194304 97 0 0 0 120 34 0 0 20 0 1 0 462622 3133440";
        assert_eq!(stat_ticks(stat), Some(154));
        assert_eq!(stat_ticks("7 (a) R 1"), None);
    }

    #[test]
    fn this_process_takes_cpu_and_the_machine_no_less() {
        let mut sum = 0_u64;
        while own_cpu().unwrap() < Duration::from_millis(20) {
            sum = (0..100_000).fold(sum, u64::wrapping_add);
        }
        assert!(machine_cpu().unwrap() > own_cpu().unwrap(), "{sum}");
        assert!(peak_memory(std::process::id()).unwrap() > 100_000);
        written(std::process::id()).unwrap();
        assert!(cpu(u32::MAX).is_err());
    }

    #[test]
    fn a_directory_is_as_large_as_its_files() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("sub")).unwrap();
        fs::write(directory.path().join("a"), [0; 100]).unwrap();
        fs::write(directory.path().join("sub/b"), [0; 23]).unwrap();
        assert_eq!(directory_size(directory.path()).unwrap(), 123);
        assert_eq!(directory_size(&directory.path().join("none")).unwrap(), 0);
    }
}
