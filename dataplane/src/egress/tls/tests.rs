//! Which roots connectors hold.

use pregon_core::clock::{ManualClock, Timestamp};
use pregon_core::tls::Pin;

use super::*;

#[test]
fn the_webs_roots_are_kept_once() {
    let clock: SharedClock = ManualClock::at(Timestamp::from_millis(0));
    let base = Base::new(None, &clock).unwrap();
    let before = Arc::strong_count(&base.web);
    let usual = base.connector(None).unwrap();
    let believed = [Believed::Public, Believed::Beside(Vec::new(), vec![Pin::of(b"pinned")])];
    let made = believed.map(|believed| base.connector_for(&believed, None).unwrap());
    assert_eq!(Arc::strong_count(&base.web), before + 3);
    drop((usual, made));
    assert_eq!(Arc::strong_count(&base.web), before);
}
