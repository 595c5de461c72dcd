//! Scripts: bounded, atomic steps, run by their hash and sent whole where Redis lost them.
//!
//! Each file of `lua/` is one script; `prelude.lua` is put before each. What every script is given
//! first: `ARGV[1]` how far the store's time is ahead of the server's (zero outside of tests). A
//! script answers with one string, MessagePack, so that the answer can be stored as it stands for
//! a call that is sent again.

use redis::{Cmd, Value};
use serde::de::DeserializeOwned;

use crate::redis::engine::fault::{Fault, Result, bad};

/// A script as it is sent.
#[derive(Debug)]
pub(in crate::redis) struct Script {
    source: String,
    sha: String,
}

impl Script {
    /// From its file; `flags` as in `allow-oom`, empty for none.
    pub fn new(flags: &str, prelude: &str, body: &str) -> Self {
        let source = format!("#!lua flags={flags}\n{prelude}\n{body}");
        let sha = redis::Script::new(&source).get_hash().to_owned();
        Self { source, sha }
    }

    /// The call by hash.
    pub fn by_hash(&self, key: &str, args: &[Vec<u8>]) -> Cmd {
        self.call("EVALSHA", &self.sha, key, args)
    }

    /// The call with the whole text, which Redis then knows by its hash.
    pub fn whole(&self, key: &str, args: &[Vec<u8>]) -> Cmd {
        self.call("EVAL", &self.source, key, args)
    }

    fn call(&self, name: &str, script: &str, key: &str, args: &[Vec<u8>]) -> Cmd {
        let mut cmd = redis::cmd(name);
        cmd.arg(script).arg(1).arg(key);
        for arg in args {
            cmd.arg(arg.as_slice());
        }
        cmd
    }
}

/// Reads a script's answer.
pub(in crate::redis) fn answer<T: DeserializeOwned>(value: Value) -> Result<T> {
    match value {
        Value::BulkString(bytes) => {
            rmp_serde::from_slice(&bytes).map_err(|error| bad("a script's answer", error))
        }
        Value::ServerError(error) => Err(Fault::from(redis::RedisError::from(error))),
        other => Err(bad("a script's answer", other)),
    }
}
