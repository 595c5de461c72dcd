//! Who is there: one row a node.

use async_trait::async_trait;
use pregon_core::clock::Timestamp;
use pregon_core::id::NodeId;
use rusqlite::params;

use crate::StoreError;
use crate::embedded::engine::Class;
use crate::embedded::engine::executor::Handle;
use crate::embedded::engine::fault::Result;
use crate::embedded::engine::state::Tx;
use crate::node::{FORGOTTEN_AFTER, NodeRegistry, NodeStatus};

fn announce(tx: &Tx<'_>, status: &NodeStatus) -> Result<()> {
    let status = NodeStatus { heartbeat_time: tx.now, ..status.clone() };
    tx.db
        .prepare_cached("INSERT OR REPLACE INTO node(id, ms, body) VALUES(?1, ?2, ?3)")?
        .execute(params![status.id.as_str(), tx.now.millis(), postcard::to_stdvec(&status)?])?;
    Ok(())
}

#[async_trait]
impl NodeRegistry for Handle {
    async fn announce(&self, status: NodeStatus) -> std::result::Result<(), StoreError> {
        self.write(Class::Finish, 1, move |tx| announce(tx, &status)).await
    }

    async fn leave(&self, id: &NodeId) -> std::result::Result<(), StoreError> {
        let id = id.clone();
        let leave = move |tx: &mut Tx<'_>| {
            tx.db.prepare_cached("DELETE FROM node WHERE id = ?1")?.execute([id.as_str()])?;
            Ok(())
        };
        self.write(Class::Finish, 1, leave).await
    }

    async fn nodes(&self) -> std::result::Result<(Vec<NodeStatus>, Timestamp), StoreError> {
        let now = self.now();
        let nodes = self
            .read(move |db| {
                let sql = "SELECT body FROM node WHERE ms >= ?1 ORDER BY id";
                let mut select = db.prepare_cached(sql)?;
                let mut rows = select.query([now.minus(FORGOTTEN_AFTER).millis()])?;
                let mut nodes = Vec::new();
                while let Some(row) = rows.next()? {
                    let body: Vec<u8> = row.get(0)?;
                    nodes.extend(postcard::from_bytes::<NodeStatus>(&body)); // else of another release
                }
                Ok(nodes)
            })
            .await?;
        Ok((nodes, now))
    }
}
