//! Replays: one delivery, or all that filters choose.
//!
//! A replay is named by a tag made from the request, the event and the lane, so that a request makes
//! at most one of each, however often its steps are repeated.

use std::collections::HashMap;
use std::time::Duration;

use pregon_core::error::{Reason, Refusal, Violations};
use pregon_core::id::{DeliveryKey, DeliveryName, LaneNo, ReplayTag, SubscriptionName, TenantId};
use pregon_core::model::{Subscription, Tenant};
use pregon_core::outcome::{DeliveryState, PendingReason};
use pregon_proto::v1;
use pregon_rpc::caller::Caller;
use pregon_store::audit::WhenFull;
use pregon_store::log::DeliveryRecord;
use pregon_store::operate::{Replay, Replayed};
use sha2::{Digest, Sha256};

use crate::catalog::{self, Kind};
use crate::commit::How;
use crate::{Control, parse};

pub(super) mod many;

/// Tells the replays of one request from those of all others.
type Salt = [u8; 16];

fn tag(salt: &Salt, key: DeliveryKey) -> ReplayTag {
    let mut hash = Sha256::new();
    hash.update(salt);
    hash.update(DeliveryKey { replay: None, ..key }.to_string());
    let hash: [u8; 32] = hash.finalize().into();
    ReplayTag::from_bits(hash.first_chunk().copied().unwrap_or_default())
}

impl Control {
    fn salt(&self, how: &How) -> Salt {
        how.repeat.map_or_else(
            || {
                let mut salt = [0; 16];
                (self.random)(&mut salt);
                salt
            },
            |repeat| repeat.id,
        )
    }

    pub(crate) async fn replay_delivery(
        &self,
        request: v1::ReplayDeliveryRequest,
        caller: &Caller,
    ) -> Result<v1::ReplayDeliveryResponse, Refusal> {
        let mut wrong = Violations::new();
        let name = wrong.check("name", DeliveryName::parse(&request.name));
        let options = (request.validate_only, request.request_id.as_str());
        let how = How::parse(caller, "ReplayDelivery", &request, options, &mut wrong);
        let name = parse::done(wrong, name)?;
        if let Some(repeat) = &how.repeat {
            self.recent.note(repeat, self.clock.now())?;
        }
        let old = self.delivery(&name).await?;
        let tag = tag(&self.salt(&how), old.key);
        let key = DeliveryKey { replay: Some(tag), ..old.key };
        if how.repeat.is_some()
            && let Some(first) = self.store.log.delivery(key).await?
        {
            return Ok(v1::ReplayDeliveryResponse { delivery: self.shown_one(&first).await? });
        }
        self.check_replay(&name, &old).await?;
        let new = DeliveryRecord {
            key,
            state: DeliveryState::Pending,
            pending_reason: Some(PendingReason::Queued),
            end_reason: None,
            attempts: 0,
            next_attempt: None,
            create_time: self.clock.now(),
            end_time: None,
            node: None,
            replays: Vec::new(),
            event: old.event.clone(),
        };
        let mut shown = self.shown_one(&new).await?;
        if how.validate_only {
            if let Some(delivery) = &mut shown {
                delivery.name.clear();
            }
            return Ok(v1::ReplayDeliveryResponse { delivery: shown });
        }
        let replay = Replay { key: old.key, tag, where_needed: false };
        let replayed = async {
            match self.store.operate.replay(&[replay]).await?.first() {
                Some(Replayed::Created(_) | Replayed::Existed(_)) => {
                    Ok(v1::ReplayDeliveryResponse { delivery: shown })
                }
                Some(Replayed::EventGone | Replayed::Needless) | None => {
                    Err(Refusal::not_found("event", old.event.name().to_string()))
                }
            }
        };
        self.with_entry(&name.to_string(), WhenFull::Refused, replayed).await
    }

    /// Refuses a replay that could not be delivered now.
    async fn check_replay(&self, name: &DeliveryName, old: &DeliveryRecord) -> Result<(), Refusal> {
        if old.event.erased.is_some() {
            let message = format!("the event of {name} was erased; nothing can be sent of it");
            return Err(Refusal::new(Reason::StateConflict, message).about("delivery", name));
        }
        if old.state == DeliveryState::Pending {
            let message = format!("{name} has not ended yet; it needs no replay");
            return Err(Refusal::new(Reason::StateConflict, message).about("delivery", name));
        }
        self.room(&name.tenant).await.and_then(|room| match room {
            0 => Err(no_room(&name.tenant)),
            _ => Ok(()),
        })?;
        let receivers = self.receivers(&name.tenant, [old.key.lane]).await?;
        match receivers.get(&old.key.lane) {
            Some(Receiver { subscription: Some(it), .. }) if it.state.matches() => Ok(()),
            Some(Receiver { subscription: Some(it), name }) => {
                let message = format!("{name} is {} and receives nothing", it.state);
                Err(Refusal::new(Reason::StateConflict, message).about(Subscription::WORD, name))
            }
            Some(Receiver { subscription: None, name }) => {
                Err(Refusal::not_found(Subscription::WORD, name.to_string()))
            }
            None => Err(Refusal::not_found(Subscription::WORD, format!("of {name}"))),
        }
    }

    /// How many more deliveries of a tenant may wait; refuses where it is suspended.
    pub(super) async fn room(&self, tenant: &TenantId) -> Result<u64, Refusal> {
        let stored = self.fetch::<Tenant>(&tenant.name()).await?;
        if stored.value.suspended {
            let message = format!("{} is suspended", tenant.name());
            return Err(
                Refusal::new(Reason::TenantSuspended, message).about(Tenant::WORD, tenant.name())
            );
        }
        let outstanding = self.store.intake.outstanding(tenant).await?;
        Ok(u64::from(stored.value.limits.max_pending).saturating_sub(outstanding))
    }

    /// Who is behind lanes today.
    async fn receivers(
        &self,
        tenant: &TenantId,
        lanes: impl IntoIterator<Item = LaneNo>,
    ) -> Result<HashMap<LaneNo, Receiver>, Refusal> {
        let owners = self.lane_owners(lanes.into_iter().map(|lane| (tenant.clone(), lane))).await?;
        let (lanes, names): (Vec<_>, Vec<_>) = owners.into_iter().unzip();
        let texts: Vec<_> = names.iter().map(ToString::to_string).collect();
        let found = self.store.config.get(&texts).await?;
        let mut receivers = HashMap::new();
        for ((lane, name), document) in lanes.into_iter().zip(names).zip(found) {
            let subscription = document.as_ref().map(catalog::read::<Subscription>).transpose()?;
            // Another subscription of the same id has another lane.
            let subscription = subscription.map(|it| it.value).filter(|it| it.lane == lane);
            receivers.insert(lane, Receiver { name, subscription });
        }
        Ok(receivers)
    }
}

pub(super) fn no_room(tenant: &TenantId) -> Refusal {
    let message = format!("{} has as many waiting deliveries as it may", tenant.name());
    Refusal::new(Reason::QuotaExceeded, message)
        .about(Tenant::WORD, tenant.name())
        .retry_after(Duration::from_secs(10))
}

/// The subscription behind a lane.
struct Receiver {
    name: SubscriptionName,
    /// None: it was deleted.
    subscription: Option<Subscription>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_of_one_request_event_and_lane() {
        let key: DeliveryKey = "00000000000000000001-1".parse().unwrap();
        let other: DeliveryKey = "00000000000000000001-2".parse().unwrap();
        assert_eq!(tag(&[1; 16], key), tag(&[1; 16], key));
        assert_ne!(tag(&[1; 16], key), tag(&[2; 16], key));
        assert_ne!(tag(&[1; 16], key), tag(&[1; 16], other));
        let replay = DeliveryKey { replay: Some(tag(&[3; 16], key)), ..key };
        assert_eq!(
            tag(&[1; 16], replay),
            tag(&[1; 16], key),
            "of a replay it is that of its event"
        );
    }
}
