//! Getting at a Redis: a connection, what its server promises, and which store lies in it.
//!
//! A store is set up once, by whoever runs it ([`setup`]); no process does that by itself, for a
//! Redis without a store may be one that lost it.

use std::sync::Arc;

use pregon_core::id::PartitionNo;
use redis::{Client, ClientTlsConfig, ConnectionInfo, IntoConnectionInfo, TlsCertificates};

use crate::redis::config::Config;
use crate::redis::config::nodes::Nodes;
use crate::redis::engine::fault::OpenError;
use crate::redis::engine::link::Link;
use crate::redis::engine::scripts::{RAISE, Scripts};
use crate::redis::engine::server::Promise;
use crate::redis::engine::sure::{Confirmer, Proof};
use crate::redis::engine::value;
use crate::redis::layout::keys::ConfigKey;
use crate::redis::layout::token::PARTITIONS_MAX;
use crate::redis::{Redis, RedisOptions};

/// The form in which this release writes and reads; a store of a later one is left alone. A store
/// of an earlier one is raised to it once no node of an earlier release is there, see [`raise`].
const SCHEMA: u32 = 2;
/// The first form that has runs.
const RUNS: u32 = 2;

/// What setting up found or made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Nothing was there before.
    pub created: bool,
    /// The store's name for this life.
    pub epoch: u64,
    /// Its partitions: what was asked for, or what an earlier setup was asked for.
    pub partitions: PartitionNo,
}

/// What the engine is made of.
pub(in crate::redis) struct Parts {
    /// For all calls but those below.
    pub main: Link,
    /// For publishes and commits, which are large.
    pub publish: Link,
    /// For what blocks at Redis.
    pub block: Link,
    /// The configuration.
    pub config: Arc<Config>,
    /// The nodes.
    pub nodes: Arc<Nodes>,
    /// What the server promises.
    pub promise: Promise,
    /// What waits until writes are at their level.
    pub confirmer: Confirmer,
    /// Its partitions.
    pub partitions: PartitionNo,
    /// Whether its form has runs.
    pub runs: bool,
}

/// Sets up a store in a Redis that has none. One that is there is left as it is, and told of.
///
/// # Errors
///
/// The server cannot be reached or used, or the settings break a rule.
pub async fn setup(options: &RedisOptions, partitions: PartitionNo) -> Result<Setup, OpenError> {
    if !(1..=PARTITIONS_MAX).contains(&partitions) {
        return Err(OpenError::setting("--partitions", format!("must be 1 to {PARTITIONS_MAX}")));
    }
    let client = client(options)?;
    let link = Link::new(&client).map_err(OpenError::from_fault)?;
    let promise = Promise::read(&link, options).await?;
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| OpenError::Unreachable(error.to_string()))?;
    let args = [
        options.ahead.millis().to_string(),
        u64::from_le_bytes(random).max(1).to_string(),
        partitions.to_string(),
        SCHEMA.to_string(),
    ];
    let args = args.map(String::into_bytes);
    let meta = ConfigKey::Meta.to_string();
    let (created, epoch, partitions, schema): (u8, String, PartitionNo, u32) =
        link.run(&Scripts::new().setup, &meta, &args).await.map_err(OpenError::from_fault)?;
    let there = promise.confirm.all(&link, &[&Proof::Key(meta)]).await;
    if there.map_err(OpenError::from_fault)? != [true] {
        return Err(OpenError::Unreachable("it lost the store that was just set up".to_owned()));
    }
    known(schema)?;
    let unreadable = |_| OpenError::Unreachable("the epoch cannot be read".to_owned());
    let epoch = epoch.parse().map_err(unreadable)?;
    Ok(Setup { created: created == 1, epoch, partitions })
}

/// Opens the store that lies in a Redis.
///
/// # Errors
///
/// The server cannot be reached or used, a setting breaks a rule, or there is no store.
pub async fn open(options: RedisOptions) -> Result<Redis, OpenError> {
    Redis::of(connect(&options).await?, &options).await
}

/// Connects, checks the server, and reads which store lies in it.
pub(in crate::redis) async fn connect(options: &RedisOptions) -> Result<Parts, OpenError> {
    let client = client(options)?;
    let main = Link::new(&client).map_err(OpenError::from_fault)?;
    let link = || main.another().map_err(OpenError::from_fault);
    let (publish, block, follow) = (link()?, link()?, link()?);
    let promise = Promise::read(&main, options).await?;
    let confirmer = Confirmer::start(link()?, promise.confirm);
    let (partitions, schema) = read_setup(&main).await?;
    let ahead = options.ahead.clone();
    let config =
        Config::new(main.clone(), publish.clone(), follow, confirmer.clone(), ahead.clone());
    let (config, nodes) = (Arc::new(config), Arc::new(Nodes::new(main.clone(), ahead)));
    let runs = schema >= RUNS;
    Ok(Parts { main, publish, block, config, nodes, promise, confirmer, partitions, runs })
}

/// Raises a store to the form of this release, unless a node of an earlier one is there, which
/// would not understand what it finds; says whether the store has that form.
pub(in crate::redis) async fn raise(link: &Link) -> crate::redis::engine::fault::Result<bool> {
    let meta = ConfigKey::Meta.to_string();
    let args = ["0".to_owned(), SCHEMA.to_string()].map(String::into_bytes);
    let raised: u8 = link.run(&RAISE, &meta, &args).await?;
    Ok(raised == 1)
}

async fn read_setup(link: &Link) -> Result<(PartitionNo, u32), OpenError> {
    let mut cmd = redis::cmd("HMGET");
    cmd.arg(ConfigKey::Meta.to_string()).arg(&["epoch", "partitions", "schema"]);
    let read = async || {
        let fields = value::array(link.query(&cmd).await?)?;
        let [epoch, partitions, schema] = value::exactly(fields)?;
        let epoch: Option<u64> = value::number(epoch)?;
        Ok((epoch, value::number(partitions)?, value::number(schema)?))
    };
    let read: crate::redis::engine::fault::Result<_> = read().await;
    match read.map_err(OpenError::from_fault)? {
        (Some(_), Some(partitions), Some(schema)) => {
            known(schema)?;
            Ok((partitions, schema))
        }
        _ => Err(OpenError::NotSetUp),
    }
}

fn known(schema: u32) -> Result<(), OpenError> {
    if schema > SCHEMA {
        return Err(OpenError::TooNew { found: schema, known: SCHEMA });
    }
    Ok(())
}

/// The client for these settings. Nothing that goes wrong here repeats the URL, which may hold a
/// password.
fn client(options: &RedisOptions) -> Result<Client, OpenError> {
    let url = options.url.as_str();
    let rule = "must be redis://host:port/db, rediss://host:port/db or redis+unix:///path?db=0";
    let info: ConnectionInfo =
        url.into_connection_info().map_err(|_| OpenError::setting("--redis-url", rule))?;
    let mut redis = info.redis_settings().clone();
    if let Some(user) = &options.user {
        redis = redis.set_username(user);
    }
    if let Some(password) = &options.password {
        redis = redis.set_password(password.as_str());
    }
    let info = info.set_redis_settings(redis);
    if !url.starts_with("rediss://") {
        if options.ca_pem.is_some() || options.client_pem.is_some() {
            let rule = "must be rediss:// where certificates are given";
            return Err(OpenError::setting("--redis-url", rule));
        }
        return Client::open(info).map_err(|_| OpenError::setting("--redis-url", rule));
    }
    let client_tls = options.client_pem.as_ref().map(|pem| ClientTlsConfig {
        client_cert: pem.certificate.clone(),
        client_key: pem.key.to_vec(),
    });
    let certificates = TlsCertificates { client_tls, root_cert: options.ca_pem.clone() };
    Client::build_with_tls(info, certificates).map_err(|error| {
        let rule = format!("the certificates cannot be used: {}", error.category());
        OpenError::setting("--redis-ca-file, --redis-cert-file, --redis-key-file", rule)
    })
}
