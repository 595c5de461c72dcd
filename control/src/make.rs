//! A control plane, made of its options.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use tokio::sync::Mutex;

use crate::audit::shown;
use crate::contracts::Registry;
use crate::filters::Filters;
use crate::heads::Heads;
use crate::lanes::LaneNames;
use crate::options::{Control, ControlOptions};
use crate::repeat::Recent;
use crate::secrets::Making;
use crate::sensitive::Sensitive;
use crate::subscriptions::Tests;
use crate::turns::Turns;
use crate::watches::Watchers;

impl Control {
    /// A control plane over a store.
    pub fn new(options: ControlOptions) -> Arc<Self> {
        Arc::new(Self {
            store: options.store,
            clock: options.clock,
            keys: options.keys,
            page_key: options.page_key,
            portal: options.portal,
            contracts: Registry::new(options.url_policy, options.pools),
            event_data_limit: options.event_data_limit,
            random: options.random,
            making: Making::default(),
            user_agent: options.user_agent,
            heads: Heads::new(options.latest),
            drain: options.drain,
            telemetry: options.telemetry,
            turns: Turns::default(),
            contract_turn: Mutex::default(),
            lane_names: LaneNames::default(),
            filters: Filters::default(),
            sensitive: Sensitive::default(),
            recent: Recent::default(),
            tests: Tests::default(),
            watchers: Watchers::default(),
            told: AtomicU32::new(0),
            show: shown::text,
        })
    }
}
