//! A Redis of the benchmark's own, and what it says of itself.
//!
//! All figures are differences of two INFO replies. They are asked for by hand, as an inline
//! command on a connection that is closed again: a client library would be another thing to
//! measure. What INFO costs (about a hundred microseconds) is in the figures, as is everything
//! that nodes and control plane ask while there is nothing to do.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::child::Part;
use super::scenario::Sync;

/// The longest INFO reply that is read; a real one has some 10 KiB.
const MAX_INFO: usize = 1 << 20;
/// How long Redis may take to answer: under load INFO waits for the scripts before it.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// A running Redis.
#[derive(Debug)]
pub struct Redis {
    /// Its process.
    pub part: Part,
}

impl Redis {
    /// Starts one with an append-only file in a directory, on a free port of the loopback
    /// interface. Nothing forks while something is measured: neither snapshots are taken nor the
    /// file rewritten.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(redis_server: &Path, directory: &Path, sync: Sync) -> anyhow::Result<Self> {
        std::fs::create_dir(directory)?;
        // Redis says no port of its own choice. Should another process be quicker, it does not
        // start, and the run fails.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let port = free.port().to_string();
        let place = directory.display().to_string();
        let settings = [
            ("bind", "127.0.0.1"),
            ("port", &port),
            ("dir", &place),
            ("appendonly", "yes"),
            ("appendfsync", sync.word()),
            ("auto-aof-rewrite-percentage", "0"),
            ("save", ""),
            ("maxmemory-policy", "noeviction"),
            ("daemonize", "no"),
        ];
        let args: Vec<String> = settings
            .iter()
            .flat_map(|(name, value)| [format!("--{name}"), (*value).to_owned()])
            .collect();
        let part = Part::redis(redis_server, directory, free, &args).await?;
        Ok(Self { part })
    }

    /// What it says of itself now.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn info(&self) -> anyhow::Result<Info> {
        let text = timeout(ANSWER_TIME, info(self.part.address)).await;
        Info::parse(&text.context("Redis does not answer INFO")??)
    }
}

/// Asks for everything; the reply is one bulk string.
async fn info(address: SocketAddr) -> anyhow::Result<String> {
    let mut redis = BufReader::new(TcpStream::connect(address).await?);
    redis.write_all(b"INFO all\r\n").await?;
    let mut head = String::new();
    (&mut redis).take(64).read_line(&mut head).await?;
    let length: Option<usize> = head.trim_end().strip_prefix('$').and_then(|it| it.parse().ok());
    let Some(length) = length.filter(|length| *length <= MAX_INFO) else {
        bail!("Redis answered INFO with {head:?}");
    };
    let mut text = vec![0; length];
    redis.read_exact(&mut text).await?;
    Ok(String::from_utf8(text)?)
}

/// What Redis has done so far, and what it holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Info {
    /// CPU of the main thread, in microseconds.
    main_us: f64,
    /// CPU of the process, in microseconds.
    process_us: f64,
    /// Commands executed, also those that scripts called.
    commands: u64,
    /// Times that it read from a socket.
    reads: u64,
    /// Times that it wrote to a socket.
    writes: u64,
    /// Bytes read from sockets.
    bytes_in: u64,
    /// Bytes written to sockets.
    bytes_out: u64,
    /// Bytes of the append-only file.
    aof: u64,
    /// Bytes of memory used, without buffers of connections and of the append-only file.
    pub memory: u64,
    /// Calls of each command, and the microseconds spent in them.
    by_command: BTreeMap<String, (u64, u64)>,
}

impl Info {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let lines = || text.lines().filter_map(|line| line.split_once(':'));
        let facts: BTreeMap<&str, &str> = lines().collect();
        let value = |name: &str| {
            let value = facts.get(name).with_context(|| format!("Redis's INFO has no {name}"))?;
            value.parse::<f64>().with_context(|| format!("Redis's INFO reads {name}:{value}"))
        };
        let whole = |name: &str| -> anyhow::Result<u64> {
            let value = facts.get(name).with_context(|| format!("Redis's INFO has no {name}"))?;
            value.parse().with_context(|| format!("Redis's INFO reads {name}:{value}"))
        };
        let cpu = |of: &str| -> anyhow::Result<f64> {
            let (user, system) = (format!("used_cpu_user{of}"), format!("used_cpu_sys{of}"));
            Ok((value(&user)? + value(&system)?) * 1e6)
        };
        let buffers = whole("mem_clients_normal")? + whole("mem_aof_buffer")?;
        let by_command = lines().filter_map(|(name, value)| {
            let field = |name| {
                let mut fields = value.split(',').filter_map(|field| field.split_once('='));
                fields.find(|(key, _)| *key == name)?.1.parse::<u64>().ok()
            };
            let command = name.strip_prefix("cmdstat_")?;
            Some((command.to_owned(), (field("calls")?, field("usec")?)))
        });
        Ok(Self {
            main_us: cpu("_main_thread")?,
            process_us: cpu("")?,
            commands: whole("total_commands_processed")?,
            reads: whole("total_reads_processed")?,
            writes: whole("total_writes_processed")?,
            bytes_in: whole("total_net_input_bytes")?,
            bytes_out: whole("total_net_output_bytes")?,
            aof: whole("aof_current_size")?,
            memory: whole("used_memory")?.saturating_sub(buffers),
            by_command: by_command.collect(),
        })
    }
}

/// What Redis spent on each event of a measurement, and on each delivery where that is said.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RedisCost {
    /// CPU of the main thread, in microseconds: what limits it.
    pub main_us: f64,
    /// The same on each delivery instead.
    pub delivery_us: f64,
    /// CPU of the process, in microseconds: the thread that syncs the file included.
    pub process_us: f64,
    /// Commands, also those that scripts called.
    pub commands: f64,
    /// Scripts called.
    pub scripts: f64,
    /// Microseconds within scripts, the commands that they called included.
    pub scripts_us: f64,
    /// Reads of a socket: a round trip each while calls are small; a call larger than 16 KiB is read
    /// in several.
    pub reads: f64,
    /// Writes of a socket: one for all replies that a connection has waiting.
    pub writes: f64,
    /// Bytes from nodes and control plane.
    pub bytes_in: f64,
    /// Bytes to them.
    pub bytes_out: f64,
    /// Bytes of the append-only file.
    pub aof: f64,
    /// Bytes of memory that stay: the event in history, its id, its part of the log.
    pub memory: f64,
    /// Calls and microseconds by command.
    pub by_command: BTreeMap<String, (f64, f64)>,
}

impl RedisCost {
    /// What happened between two replies, while so many events led to so many deliveries.
    pub fn between(before: &Info, after: &Info, events: u64, deliveries: u64) -> Self {
        let main_us = after.main_us - before.main_us;
        let share = |amount: f64| if events == 0 { 0.0 } else { amount / events as f64 };
        let grown = |of: fn(&Info) -> u64| share(of(after) as f64 - of(before) as f64);
        let by_command: BTreeMap<String, (f64, f64)> = after
            .by_command
            .iter()
            .map(|(name, (calls, us))| {
                let (calls_then, us_then) = before.by_command.get(name).copied().unwrap_or((0, 0));
                let calls = calls.saturating_sub(calls_then) as f64;
                (name.clone(), (share(calls), share(us.saturating_sub(us_then) as f64)))
            })
            .filter(|(_, (calls, _))| *calls > 0.0)
            .collect();
        let scripts = || ["evalsha", "eval"].iter().filter_map(|name| by_command.get(*name));
        Self {
            main_us: share(main_us),
            delivery_us: if deliveries == 0 { 0.0 } else { main_us / deliveries as f64 },
            process_us: share(after.process_us - before.process_us),
            commands: grown(|info| info.commands),
            scripts: scripts().map(|(calls, _)| calls).sum(),
            scripts_us: scripts().map(|(_, us)| us).sum(),
            reads: grown(|info| info.reads),
            writes: grown(|info| info.writes),
            bytes_in: grown(|info| info.bytes_in),
            bytes_out: grown(|info| info.bytes_out),
            aof: grown(|info| info.aof),
            memory: grown(|info| info.memory),
            by_command,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    const REPLY: &str = "# Memory\r\nused_memory:5000\r\nmem_clients_normal:300\r\n\
        mem_aof_buffer:200\r\naof_current_size:70\r\ntotal_commands_processed:9\r\n\
        total_net_input_bytes:1\r\ntotal_net_output_bytes:2\r\ntotal_reads_processed:3\r\n\
        total_writes_processed:4\r\nused_cpu_sys:0.5\r\nused_cpu_user:1.25\r\n\
        used_cpu_sys_main_thread:0.000100\r\nused_cpu_user_main_thread:0.000200\r\n\
        cmdstat_evalsha:calls=2,usec=40,usec_per_call=20.00,rejected_calls=0,failed_calls=0\r\n\
        cmdstat_config|get:calls=1,usec=7,usec_per_call=7.00,rejected_calls=0,failed_calls=0\r\n";

    #[test]
    fn a_reply_is_read_and_one_without_a_figure_is_refused() {
        let info = Info::parse(REPLY).unwrap();
        assert_eq!(info.memory, 4500);
        assert_eq!(info.process_us, 1_750_000.0);
        assert_eq!(info.by_command["config|get"], (1, 7));
        let error = Info::parse(&REPLY.replace("used_cpu_sys_main", "used_cpu")).unwrap_err();
        assert!(error.to_string().contains("used_cpu_sys_main_thread"), "{error}");
    }

    #[test]
    fn costs_are_differences_per_event() {
        let before = Info::parse(REPLY).unwrap();
        let later = REPLY
            .replace("main_thread:0.000200", "main_thread:0.000300")
            .replace("calls=2,usec=40", "calls=7,usec=140")
            .replace("used_memory:5000", "used_memory:6000");
        let cost = RedisCost::between(&before, &Info::parse(&later).unwrap(), 10, 50);
        assert!((cost.main_us - 10.0).abs() < 0.001, "{cost:?}");
        assert!((cost.delivery_us - 2.0).abs() < 0.001, "{cost:?}");
        assert_eq!((cost.scripts, cost.scripts_us, cost.memory), (0.5, 10.0, 100.0));
        assert_eq!(cost.by_command.keys().collect::<Vec<_>>(), ["evalsha"]);
        let none = RedisCost::between(&before, &before, 0, 0);
        assert_eq!((none.main_us, none.commands), (0.0, 0.0));
    }

    #[tokio::test]
    async fn a_reply_that_is_no_bulk_string_is_an_error() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = async move {
            for reply in ["$5\r\nhello\r\n", "-NOAUTH Authentication required.\r\n", ""] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut asked = [0; 10];
                stream.read_exact(&mut asked).await.unwrap();
                assert_eq!(&asked, b"INFO all\r\n");
                stream.write_all(reply.as_bytes()).await.unwrap();
            }
        };
        let ask = async {
            assert_eq!(info(address).await.unwrap(), "hello");
            assert!(info(address).await.unwrap_err().to_string().contains("NOAUTH"));
            assert!(info(address).await.is_err());
        };
        tokio::join!(serve, ask);
    }
}
