//! Who is there: one field a node, with the time at which it was heard of.
//!
//! Nodes announce themselves whether or not there is a configuration: in an emptied Redis it is
//! good to know who still serves the old one.

use async_trait::async_trait;
use bytes::Bytes;
use pregon_core::clock::Timestamp;
use pregon_core::id::NodeId;
use redis::Pipeline;

use crate::StoreError;
use crate::node::{FORGOTTEN_AFTER, NodeRegistry, NodeStatus};
use crate::redis::Ahead;
use crate::redis::engine::fault::{Result, bad};
use crate::redis::engine::link::Link;
use crate::redis::engine::scripts::Scripts;
use crate::redis::engine::value;
use crate::redis::layout::Stored;
use crate::redis::layout::config::Stamped;
use crate::redis::layout::keys::ConfigKey;

/// The nodes of one Redis.
pub(in crate::redis) struct Nodes {
    link: Link,
    scripts: Scripts,
    ahead: Ahead,
}

impl Nodes {
    /// Calls over `link`.
    pub fn new(link: Link, ahead: Ahead) -> Self {
        Self { link, scripts: Scripts::new(), ahead }
    }

    async fn try_announce(&self, status: &NodeStatus) -> Result<()> {
        let args = [
            self.ahead.millis().to_string().into_bytes(),
            status.id.as_str().into(),
            serde_json::to_vec(status).map_err(|error| bad("a node's status", error))?,
            FORGOTTEN_AFTER.as_millis().to_string().into_bytes(),
        ];
        let meta = ConfigKey::Meta.to_string();
        let _: i64 = self.link.run(&self.scripts.announce, &meta, &args).await?;
        Ok(())
    }

    async fn try_leave(&self, id: &NodeId) -> Result<()> {
        let mut leave = Pipeline::with_capacity(3);
        leave.cmd("HDEL").arg(ConfigKey::Nodes.to_string()).arg(id.as_str());
        leave.cmd("HDEL").arg(ConfigKey::Knows.to_string()).arg(id.as_str());
        leave.cmd("ZREM").arg(ConfigKey::Seen.to_string()).arg(id.as_str());
        for value in self.link.pipeline(&leave).await? {
            value.extract_error()?;
        }
        Ok(())
    }

    async fn try_nodes(&self) -> Result<(Vec<NodeStatus>, Timestamp)> {
        let mut look = Pipeline::with_capacity(2);
        look.cmd("HVALS").arg(ConfigKey::Nodes.to_string());
        // After the nodes, so that no heartbeat is in the future.
        look.cmd("TIME");
        let [stored, time] = value::exactly(self.link.pipeline(&look).await?)?;
        let now = Timestamp::from_millis(value::time(time)? + self.ahead.millis());
        let mut nodes = Vec::new();
        for value in value::array(stored)? {
            let stored = value::bytes(value)?.unwrap_or_default();
            let Some(node) = read_node(&stored) else { continue }; // of another release
            if node.heartbeat_time >= now.minus(FORGOTTEN_AFTER) {
                nodes.push(node);
            }
        }
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        Ok((nodes, now))
    }
}

fn read_node(stored: &Bytes) -> Option<NodeStatus> {
    let Stamped { stamp, bytes } = Stamped::decode(stored)?;
    let said: NodeStatus = serde_json::from_slice(&bytes).ok()?;
    Some(NodeStatus { heartbeat_time: Timestamp::from_millis(stamp), ..said })
}

#[async_trait]
impl NodeRegistry for Nodes {
    async fn announce(&self, status: NodeStatus) -> std::result::Result<(), StoreError> {
        Ok(self.try_announce(&status).await?)
    }

    async fn leave(&self, id: &NodeId) -> std::result::Result<(), StoreError> {
        Ok(self.try_leave(id).await?)
    }

    async fn nodes(&self) -> std::result::Result<(Vec<NodeStatus>, Timestamp), StoreError> {
        Ok(self.try_nodes().await?)
    }
}
