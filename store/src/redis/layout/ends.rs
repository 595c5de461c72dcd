//! Ends that no attempt tells of, as they are written for who watches.
//!
//! Scripts write numbers as texts, and bits as texts, too, for Lua has one kind of string.

use bytes::Bytes;
use pregon_core::attempt::End;
use pregon_core::id::{LaneNo, TenantId};
use pregon_core::outcome::{DeliveryState, EndReason};

use super::{Stored, delivery, number, packed_list, packed_text, text};
use crate::codec::stored::{end_code, end_of};
use crate::redis::engine::fault::Result;
use crate::redis::engine::value::Blob;
use crate::run::Bits;
use crate::watch::Ended;

/// Texts of an end: number, field, tenant, letter, attempts, create time, reason.
const TEXTS: usize = 7;

/// Field `d` of an entry: ends one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends(pub Vec<Ended>);

/// Of a letter and a code; none: it is no end.
fn end(letter: &str, code: &str) -> Option<End> {
    let state = delivery::state_of(letter.parse().ok()?)?;
    let reason = end_of(code.parse().ok()?);
    (state != DeliveryState::Pending).then_some(End { state, reason })
}

fn code(reason: Option<EndReason>) -> String {
    reason.map_or(0, end_code).to_string()
}

impl Stored for Ends {
    const WHAT: &'static str = "ends";

    fn encode(&self) -> Result<Vec<u8>> {
        let mut packed = packed_list(self.0.len() * TEXTS)?;
        for it in &self.0 {
            let texts: [String; TEXTS] = [
                it.n.to_string(),
                delivery::field_of(it.lane, it.replay),
                it.tenant.to_string(),
                delivery::letter(it.end.state).to_string(),
                it.attempts.to_string(),
                it.create_ms.to_string(),
                code(it.end.reason),
            ];
            for text in &texts {
                packed_text(&mut packed, text.as_bytes())?;
            }
        }
        Ok(packed)
    }

    /// One without a tenant (its lane's was never written down) is nobody's to see, and left out.
    fn decode(stored: &Bytes) -> Option<Self> {
        let texts: Vec<String> = rmp_serde::from_slice(stored).ok()?;
        let named = |texts: &&[String]| texts.get(2).is_some_and(|tenant| !tenant.is_empty());
        let read = |texts: &[String]| {
            let [n, field, tenant, letter, attempts, create, code] = texts else { return None };
            let (lane, replay) = delivery::parse_field(field)?;
            Some(Ended {
                n: n.parse().ok()?,
                lane,
                replay,
                tenant: TenantId::parse(tenant).ok()?,
                end: end(letter, code)?,
                attempts: attempts.parse().ok()?,
                create_ms: create.parse().ok()?,
            })
        };
        texts.chunks(TEXTS).filter(named).map(read).collect::<Option<_>>().map(Self)
    }
}

/// Field `r` of an entry: what ended of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndsOfRun {
    pub base: u64,
    pub lane: LaneNo,
    /// None: its lane's was never written down, and it is nobody's to see.
    pub tenant: Option<TenantId>,
    pub end: End,
    pub began_ms: i64,
    pub bits: Bits,
}

impl EndsOfRun {
    /// Each of them.
    pub fn each(&self) -> Vec<Ended> {
        let Some(tenant) = &self.tenant else { return Vec::new() };
        let one = |n| Ended {
            n,
            lane: self.lane,
            replay: None,
            tenant: tenant.clone(),
            end: self.end,
            attempts: 0,
            create_ms: self.began_ms,
        };
        self.bits.numbers(self.base).map(one).collect()
    }
}

impl Stored for EndsOfRun {
    const WHAT: &'static str = "the end of a run";

    fn encode(&self) -> Result<Vec<u8>> {
        let mut packed = packed_list(TEXTS)?;
        let texts = [
            self.base.to_string(),
            self.lane.0.to_string(),
            self.tenant.as_ref().map_or_else(String::new, TenantId::to_string),
            delivery::letter(self.end.state).to_string(),
            self.began_ms.to_string(),
            code(self.end.reason),
        ];
        for text in &texts {
            packed_text(&mut packed, text.as_bytes())?;
        }
        packed_text(&mut packed, self.bits.bytes())?;
        Ok(packed)
    }

    fn decode(stored: &Bytes) -> Option<Self> {
        let parts: Vec<Blob> = rmp_serde::from_slice(stored).ok()?;
        let [base, lane, tenant, letter, began, code, bits] = parts.as_slice() else { return None };
        let tenant = text(&tenant.0)?;
        let tenant = match tenant.is_empty() {
            true => None,
            false => Some(TenantId::parse(tenant).ok()?),
        };
        Some(Self {
            base: number(&base.0)?,
            lane: LaneNo(number(&lane.0)?),
            tenant,
            end: end(text(&letter.0)?, text(&code.0)?)?,
            began_ms: number(&began.0)?,
            bits: Bits::read(&bits.0)?,
        })
    }
}
