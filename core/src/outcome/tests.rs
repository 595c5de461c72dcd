use super::*;

/// The stored word (serde) and the shown word (API, logs, metrics) are one.
fn same_words<T: Copy + Serialize>(all: &[T], word: impl Fn(T) -> &'static str) {
    for value in all {
        let stored = serde_json::to_value(value).unwrap();
        assert_eq!(stored, serde_json::Value::from(word(*value)));
    }
}

#[test]
fn words_are_the_same_everywhere() {
    same_words(ErrorClass::ALL, ErrorClass::word);
    same_words(AttemptOutcome::ALL, AttemptOutcome::word);
    same_words(DeliveryState::ALL, DeliveryState::word);
    same_words(PendingReason::ALL, PendingReason::word);
    same_words(EndReason::ALL, EndReason::word);
}

#[test]
fn every_reason_ends_a_delivery_short_of_success() {
    for reason in EndReason::ALL {
        assert!(reason.state().is_end());
        assert_ne!(reason.state(), DeliveryState::Succeeded);
    }
}
