//! The settings of `pregon control`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use pregon_rpc::server::Listen;
use pregon_store::redis::RedisOptions;

use super::listen::ListenArgs;
use super::policy::{Policy, PolicyArgs};
use super::redis::RedisArgs;
use super::{KmsArgs, WrongSetting, Wrongs};
use crate::keys::kms::TransitOptions;

/// Where it listens: loopback, beside the ports of standalone and of nodes.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7071);

/// Settings of `pregon control`, as text.
#[derive(Args, Clone, Debug)]
pub struct ControlArgs {
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    redis: RedisArgs,
    #[command(flatten)]
    master_key: MasterKeyArgs,
    #[command(flatten)]
    policy: PolicyArgs,
}

/// The key file that all processes on one Redis share, as text.
#[derive(Args, Clone, Debug)]
pub(super) struct MasterKeyArgs {
    /// File with the keys that seal secrets: 32 bytes each, in hex or base64 or wrapped by a KMS,
    /// one a line, the current one first.
    ///
    /// Every control plane and node of a deployment has the same; it never lies in Redis.
    #[arg(long, env = "PREGON_MASTER_KEY_FILE", value_name = "FILE")]
    master_key_file: Option<PathBuf>,

    #[command(flatten)]
    kms: KmsArgs,
}

impl MasterKeyArgs {
    /// The file, and who opens those of its keys that are wrapped.
    pub(super) fn read(self, wrong: &mut Wrongs) -> (PathBuf, Option<TransitOptions>) {
        let named = self.kms.is_given();
        let kms = self.kms.read(wrong);
        let Some(path) = self.master_key_file else {
            let rule = "must be set: 32 random bytes in hex, the same for every control plane and \
                        node, as `openssl rand -hex 32` prints them";
            return wrong.add("--master-key-file", rule, (PathBuf::new(), kms));
        };
        wrong.master_key(&path, named);
        (path, kms)
    }
}

/// Settings of `pregon control`, read.
#[derive(Clone, Debug)]
pub struct ControlSettings {
    /// Where gRPC is served.
    pub listen: Listen,
    /// Its Redis.
    pub redis: RedisOptions,
    /// File with the master keys.
    pub master_key_file: PathBuf,
    /// Who opens those of them that are wrapped.
    pub kms: Option<TransitOptions>,
    /// What both planes must agree on.
    pub policy: Policy,
    /// What leaves for a collector.
    pub telemetry: pregon_telemetry::Settings,
}

impl ControlArgs {
    /// Reads all settings, or reports every wrong one.
    ///
    /// # Errors
    ///
    /// All settings that cannot be used.
    pub fn read(self) -> Result<ControlSettings, Vec<WrongSetting>> {
        let mut wrong = Wrongs::default();
        let listen = self.listen.read(LISTEN, false, &mut wrong);
        let redis = self.redis.read(&mut wrong);
        let (master_key_file, kms) = self.master_key.read(&mut wrong);
        let settings = ControlSettings {
            listen,
            redis,
            master_key_file,
            kms,
            policy: self.policy.read(&mut wrong),
            telemetry: wrong.telemetry(),
        };
        wrong.or(settings)
    }
}
