//! What has deliveries made anew, made late, or tried at once.

use std::collections::btree_map::Entry;

use pregon_core::id::DeliveryKey;

use super::super::super::Rig;
use super::super::super::kit::{lane, tag};
use super::super::chance::Chance;
use super::super::model::{ModelDelivery, Moment, Place, Stage};
use super::Driver;
use super::settle::own_lane;
use crate::operate::{Filled, Forwarded, Missing, Replay, Replayed};

impl Driver {
    pub(super) async fn replay(&mut self, rig: &Rig, chance: &mut Chance) {
        let Some(key) = self.any_delivery(chance) else { return };
        if !matches!(self.model.deliveries[&key].place, Place::Ended(_)) {
            return;
        }
        let tag = tag(u8::try_from(chance.below(3)).unwrap_or(0));
        let new = DeliveryKey { replay: Some(tag), ..key };
        self.note(format!("replay {key} as {tag}"));
        let before = rig.now().await;
        let answers = rig
            .store
            .operate
            .replay(&[Replay { key, tag, where_needed: false }])
            .await
            .expect("a replay");
        let at = Moment { earliest: before, latest: rig.now().await };
        match self.model.deliveries.entry(new) {
            Entry::Occupied(_) => assert_eq!(answers, [Replayed::Existed(new)]),
            Entry::Vacant(free) => {
                assert_eq!(answers, [Replayed::Created(new)]);
                let place = Place::Lane(at);
                free.insert(ModelDelivery { place, attempts: 0, cancelled: false });
            }
        }
    }

    /// An event that was matched gets a delivery to a lane, if it never had one.
    pub(super) async fn fill(&mut self, rig: &Rig, chance: &mut Chance) {
        let events: Vec<_> = self.model.events.keys().copied().collect();
        let Some(position) = chance.pick(&events).copied() else { return };
        // Whose lanes may be meant is not known before somebody took it.
        let Some(event) = self.model.events[&position].event.clone() else { return };
        let (lane, make) = (lane(own_lane(&event, chance)), !chance.once_in(4));
        let before = rig.now().await;
        let answers = rig.store.operate.fill(&[Missing { position, lane }], make).await;
        let answer = answers.expect("a fill").remove(0);
        self.note(format!("fill {}-{lane}, make {make}: {answer:?}", position.n));
        let at = Moment { earliest: before, latest: rig.now().await };
        let key = DeliveryKey { position, lane, replay: None };
        let of_lane = |it: &DeliveryKey| it.position == position && it.lane == lane;
        let known = self.model.deliveries.keys().any(of_lane);
        let event = self.model.events.get_mut(&position).expect("an event");
        match event.stage {
            Stage::New | Stage::Postponed(_) | Stage::Held(_) => {
                assert_eq!(answer, Filled::NotMatched);
            }
            Stage::Matched | Stage::Unmatched if known => assert_eq!(answer, Filled::Existed),
            Stage::Matched | Stage::Unmatched => {
                assert_eq!(answer, Filled::Created(key));
                if make {
                    event.stage = Stage::Matched;
                    let place = Place::Lane(at);
                    let new = ModelDelivery { place, attempts: 0, cancelled: false };
                    self.model.deliveries.insert(key, new);
                }
            }
        }
    }

    pub(super) async fn bring_forward(&mut self, rig: &Rig, chance: &mut Chance) {
        let Some(key) = self.any_delivery(chance) else { return };
        let before = rig.now().await;
        let answers = rig.store.operate.bring_forward(&[key]).await;
        let answer = answers.expect("a forward").remove(0);
        self.note(format!("bring {key} forward: {answer:?}"));
        let at = Moment { earliest: before, latest: rig.now().await };
        let delivery = self.model.deliveries.get_mut(&key).expect("a delivery");
        match delivery.place {
            Place::Lane(due) if due.must_have_come(at) => assert_eq!(answer, Forwarded::Due),
            Place::Lane(due) if due.may_have_come(at) && answer == Forwarded::Due => {}
            Place::Lane(_) => {
                assert_eq!(answer, Forwarded::Done);
                delivery.place = Place::Lane(at);
            }
            Place::Held(_) => assert_eq!(answer, Forwarded::InFlight),
            Place::Ended(_) => assert_eq!(answer, Forwarded::NotPending),
        }
    }
}
