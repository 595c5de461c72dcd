//! The audit log: a hash of entries, and their ids by class in the order of their times.

use async_trait::async_trait;
use pregon_core::clock::Timestamp;
use redis::{Pipeline, Value};

use super::{Config, meta_cmd, print, random, read_meta};
use crate::StoreError;
use crate::audit::{
    AuditClass, AuditId, AuditKept, AuditLog, AuditRange, AuditRecord, NewAudit, TRIMMED, WhenFull,
    first,
};
use crate::redis::engine::fault::{Result, bad};
use crate::redis::engine::link::Link;
use crate::redis::engine::scripts::AUDIT_TRIM;
use crate::redis::engine::sure::Proof;
use crate::redis::engine::value;
use crate::redis::layout::Stored;
use crate::redis::layout::config::Stamped;
use crate::redis::layout::keys::{ConfigKey, class_letter};

/// How a script is told the class of an entry; empty where there is none.
pub(super) fn class(entry: Option<&NewAudit>) -> Vec<u8> {
    entry.map_or_else(Vec::new, |entry| letter(entry.class))
}

fn letter(class: AuditClass) -> Vec<u8> {
    class_letter(class).to_string().into_bytes()
}

/// One bounded step of trimming; says whether there may be more.
pub(in crate::redis) async fn trim(
    link: &Link,
    ahead: i64,
    now: Timestamp,
    kept: &AuditKept,
) -> Result<bool> {
    let (meta, mut more) = (ConfigKey::Meta.to_string(), false);
    for class in AuditClass::ALL {
        let bound = kept.of(class);
        let args = [
            print(ahead),
            letter(class),
            first(now.minus(kept.age)).into_bytes(),
            print(bound.entries),
            print(bound.bytes),
            print(TRIMMED),
        ];
        let gone: usize = link.run(&AUDIT_TRIM, &meta, &args).await?;
        more |= gone == TRIMMED;
    }
    Ok(more)
}

impl Config {
    async fn try_record(&self, entries: &[NewAudit], full: WhenFull) -> Result<()> {
        let call = ConfigKey::Commit(random()?).to_string();
        let mut args = vec![print(self.ahead.millis()), call.clone().into_bytes()];
        for NewAudit { id, class, bytes } in entries {
            let value = Stamped { stamp: 0, bytes: bytes.clone() };
            args.extend([letter(*class), id.as_str().into(), value.encode()?]);
        }
        let meta = ConfigKey::Meta.to_string();
        let script = match full {
            WhenFull::Refused => &self.scripts.audit,
            WhenFull::Written => &self.scripts.audit_always,
        };
        let _: u8 = self.publish.run(script, &meta, &args).await?;
        self.confirmer.confirm(Proof::Key(call)).await
    }

    async fn try_entries(&self, range: &AuditRange) -> Result<Vec<AuditRecord>> {
        let (since, mut below) = range.ids();
        let mut records = Vec::new();
        // Ids whose entries are trimmed meanwhile make room for the next.
        while records.len() < range.limit {
            let wanted = range.limit - records.len();
            let ids = self.audit_ids(&since, &below, wanted).await?;
            let Some(last) = ids.last() else { break };
            below.clone_from(last);
            let mut get = redis::cmd("HMGET");
            get.arg(ConfigKey::Audit.to_string()).arg(&ids);
            let values = value::array(self.link.query(&get).await?)?;
            for (id, value) in ids.iter().zip(values) {
                records.extend(record(id, value)?);
            }
            if ids.len() < wanted {
                break;
            }
        }
        Ok(records)
    }

    /// The latest ids of all classes from `since` on and below `below`; fewer than wanted: there are
    /// no more.
    async fn audit_ids(&self, since: &str, below: &str, wanted: usize) -> Result<Vec<String>> {
        let mut look = Pipeline::with_capacity(AuditClass::ALL.len() + 1);
        for class in AuditClass::ALL {
            look.cmd("ZREVRANGEBYLEX").arg(ConfigKey::AuditIds(class).to_string());
            look.arg(format!("({below}")).arg(format!("[{since}"));
            look.arg("LIMIT").arg(0).arg(wanted);
        }
        look.add_command(meta_cmd());
        let [calls, bound, refusals, meta] = value::exactly(self.link.pipeline(&look).await?)?;
        read_meta(meta)?;
        let mut ids = Vec::new();
        for class in [calls, bound, refusals] {
            for id in value::array(class)? {
                ids.push(value::text(id)?);
            }
        }
        ids.sort_unstable_by(|a, b| b.cmp(a));
        ids.truncate(wanted);
        Ok(ids)
    }
}

/// An entry; none: it went meanwhile.
fn record(id: &str, value: Value) -> Result<Option<AuditRecord>> {
    let Some(stored) = value::bytes(value)? else { return Ok(None) };
    let Stamped { stamp, bytes } =
        Stamped::decode(&stored).ok_or_else(|| bad("an entry of the audit log:", id))?;
    let id = AuditId::parse(id).ok_or_else(|| bad("an id in the audit log:", id))?;
    Ok(Some(AuditRecord { id, revision: stamp, bytes }))
}

#[async_trait]
impl AuditLog for Config {
    async fn record(
        &self,
        entries: &[NewAudit],
        full: WhenFull,
    ) -> std::result::Result<(), StoreError> {
        Ok(self.try_record(entries, full).await?)
    }

    async fn entries(
        &self,
        range: AuditRange,
    ) -> std::result::Result<Vec<AuditRecord>, StoreError> {
        Ok(self.try_entries(&range).await?)
    }
}
