//! What only several processes can show: one of them, or their Redis, is gone, and the others go on.

mod configuration;
mod failover;
mod load;
mod outages;
