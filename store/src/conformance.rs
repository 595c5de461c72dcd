//! The one suite that every engine must pass.
//!
//! A case is a promise of the traits, written against nothing but the traits: it is handed a
//! [`Rig`] around a fresh, empty engine, and after it the books must balance and the audit find
//! nothing, whatever the case was about. [`conformance_suite!`](crate::conformance_suite) turns all
//! cases into tests of one engine.
//!
//! Engines differ in three things, which [`Engine`] states and cases ask for: how time is moved,
//! what a restart keeps, and whether two processes can share the data. Cases never assume a number
//! of partitions, nor that time stands still by itself; they move it in steps that are long
//! against the length of a test.

use std::time::Duration;

use async_trait::async_trait;

use crate::Store;

mod kit;
mod rig;

pub mod audit;
pub mod backlog;
pub mod cancel;
pub mod changes;
pub mod config;
pub mod deliveries;
pub mod ends;
pub mod erase;
pub mod events;
pub mod fan_out;
pub mod fill;
pub mod forward;
pub mod histories;
pub mod lane_log;
pub mod lanes;
pub mod large;
pub mod nodes;
pub mod publish;
pub mod rates;
pub mod replay;
pub mod restart;
pub mod retry;
pub mod runs;
pub mod schedules;
pub mod second;
pub mod settle;
pub mod split;
pub mod take;
pub mod take_over;
pub mod test_sends;
pub mod tombstones;
pub mod watch;

pub use rig::Rig;

/// What the suite needs of an engine beside its traits.
#[async_trait]
pub trait Engine: Send + Sync {
    /// The engine's handles; others after [`Engine::reopen`].
    fn store(&self) -> Store;

    /// Moves the engine's time forward, by days where a case wants days. An engine whose time is
    /// its server's adds an offset to it.
    async fn advance(&self, by: Duration);

    /// Ends the process, as it were, and starts another on the same data. False: this engine
    /// keeps nothing, and nothing was done.
    async fn reopen(&mut self) -> bool;

    /// Whether leases of an earlier life are free at once after [`Engine::reopen`]; otherwise
    /// they lapse in their time.
    fn restart_frees_leases(&self) -> bool {
        false
    }

    /// All that is stored, value by value, as a reader of the store itself finds it.
    async fn everything(&self) -> Vec<Vec<u8>>;

    /// The handles of another process on the same data, if the engine can have one.
    async fn second(&self) -> Option<Store> {
        None
    }
}

/// Makes a test of every case, each on an engine of its own that the given async function opens.
///
/// The function takes nothing and returns a [`Rig`].
#[macro_export]
macro_rules! conformance_suite {
    ($open:path) => {
        $crate::conformance_configuration! { $open }
        $crate::conformance_queue! { $open }
    };
}

/// The part of [`conformance_suite!`](crate::conformance_suite) that control planes rest on.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_configuration {
    ($open:path) => {
        $crate::conformance_cases! { $open,
            config [
                commits_get_dense_revisions
                a_commit_happens_whole_or_not_at_all
                preconditions_are_held
                a_conflict_names_the_first_document_that_differs
                of_racing_commits_one_wins
                a_deleted_document_is_gone
                documents_are_got_in_the_order_asked
                lists_are_of_one_kind_under_a_prefix
                all_documents_are_paged_by_name
                a_repeated_request_is_answered_as_before
                a_request_id_belongs_to_one_request
                a_request_is_forgotten_after_the_day
                a_refused_request_is_not_remembered
                a_request_alone_is_remembered
                lane_numbers_are_never_given_twice
            ]
            changes [
                changes_follow_commits_in_order
                a_follower_goes_on_after_any_revision
                a_follower_is_woken_by_a_commit
                a_follower_waits_no_longer_than_asked
                a_follower_behind_the_log_meets_a_gap
                another_history_is_a_gap
                large_documents_travel_whole
                a_snapshot_and_the_changes_after_it_agree
            ]
            audit [
                an_entry_is_there_if_its_commit_is
                an_entry_takes_the_place_of_its_id
                entries_are_read_from_the_latest_on
                entries_go_when_they_are_old
            ]
            nodes [
                a_node_is_listed_as_it_said
                the_heartbeat_is_by_the_stores_clock
                a_node_that_leaves_is_gone
                a_silent_node_is_lost_before_it_is_forgotten
            ]
        }
    };
}

/// The part of [`conformance_suite!`](crate::conformance_suite) that is about events.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_queue {
    ($open:path) => {
        $crate::conformance_cases! { $open,
            publish [
                numbers_are_dense_and_in_publish_order
                a_large_call_is_answered_in_order
                an_event_is_kept_as_published
                assigned_ids_name_their_position
                a_repeat_is_a_duplicate
                other_content_is_refused
                other_attributes_are_refused
                trace_and_revision_are_no_content
                repeats_within_one_call_are_seen
                parallel_publishes_of_one_id_make_one_event
                ids_are_a_tenants_own
                versions_of_one_id_are_different_events
                an_id_is_free_after_its_window
                a_pending_delivery_keeps_its_id
                an_event_still_to_be_matched_keeps_its_id
                a_name_that_is_taken_again_inherits_nothing
            ]
            take [
                a_take_hands_out_the_oldest_first
                a_take_is_bounded
                a_take_is_bounded_in_bytes
                claimants_never_share_an_event
                an_event_shows_where_it_stands
                an_extended_lease_holds
                a_finished_batch_is_gone
                a_lapsed_lease_that_nobody_took_still_settles
                the_next_lapse_is_told
                a_publish_wakes_a_waiting_node
                a_wait_ends_by_itself
            ]
            take_over [
                a_lapsed_batch_is_taken_over
                a_live_lease_is_not_taken_over
                only_what_is_open_comes_back
                due_deliveries_come_back_with_their_attempts
                a_lost_attempt_is_told
                every_lost_attempt_is_told
                a_zombie_settles_nothing
                a_zombie_is_told_when_it_extends
                released_batches_come_back_at_once
                a_release_counts_no_take
                a_take_over_is_bounded
                one_lapsed_batch_goes_to_one_node
                a_suspect_is_halved_until_it_is_one_item
                suspects_are_leased_as_many_as_are_asked_for
                a_large_suspect_is_halved
                a_suspect_is_held_back
            ]
            settle [
                a_batch_of_successes_leaves_nothing
                a_batch_settles_by_parts
                nobody_wanted_it
                one_event_ends_in_many_ways
                a_spoiled_event_is_set_aside
                one_call_settles_many_batches
                a_lost_batch_does_not_hold_the_others_back
                a_repeated_settle_moves_nothing_twice
                a_settle_of_nothing_does_nothing
                attempts_are_logged_as_given
                what_is_outstanding_is_known_by_tenant
                books_are_kept_by_tenant
                a_delivery_is_as_old_as_its_match
            ]
            split [
                an_open_event_is_split
                a_held_delivery_succeeds
                a_held_delivery_is_retried
                held_deliveries_are_taken_over
                a_zombie_of_a_split_batch_settles_nothing
            ]
            retry [
                a_retry_is_due_in_its_time
                an_early_retry_is_not_held_up_by_a_late_one
                attempts_are_counted_over_retries
                waiting_costs_no_attempt
                the_next_due_moment_is_told
                due_hands_out_no_more_than_wanted
                a_due_delivery_is_handed_out_once
                due_claimants_never_share_a_delivery
                a_postponed_event_comes_back_as_an_event
                a_postponed_event_can_be_postponed_again
                what_waits_is_kept_however_long
                the_schedule_ends
            ]
            schedules [
                a_time_long_past_is_none
                a_scheduled_event_lacks_no_delivery
                an_event_waits_for_its_time
                a_time_that_has_passed_is_due_at_once
                a_ripe_event_is_taken_over_ripe
                a_scheduled_event_is_called_off
                scheduled_events_are_listed
                what_is_scheduled_is_kept_with_its_id
                what_a_tenant_scheduled_is_erased
                a_scheduled_event_is_erased
                a_hundred_thousand_are_due_to_the_second
            ]
            lanes [
                lanes_take_turns
                a_lane_alone_fills_a_call
                a_small_lane_is_not_held_up_by_a_large_one
                slots_bound_what_a_lane_hands_out
                a_full_lane_gives_nothing_and_holds_nobody_up
                a_full_lane_is_pulled
                a_full_lane_is_looked_at_again_by_itself
                a_closed_lane_gives_nothing
                a_closed_lane_opens_in_its_time
                a_lane_is_opened_by_hand
                closing_longer_wins
                an_empty_lane_can_be_closed
                a_settle_closes_lanes
                a_retry_into_a_closed_lane_waits
            ]
            fan_out [
                a_fan_out_in_steps_reaches_each_lane_once
                a_fan_out_is_continued_above_its_cursor
                a_fan_out_can_be_put_off
                a_zombies_fan_out_step_reaches_nobody
                a_repeated_step_reaches_nobody_twice
                a_fan_out_may_end_with_an_empty_step
                deliveries_go_out_while_their_event_fans_out
            ]
            cancel [
                a_waiting_delivery_is_cancelled
                a_delivery_in_flight_is_cancelled_instead_of_retried
                a_delivery_in_flight_may_still_succeed
                a_held_delivery_is_cancelled_too
                a_cancel_outlives_a_take_over
                a_cancel_outlives_a_long_stop
                a_repeated_settle_eats_no_cancel
                an_ended_delivery_keeps_its_end
                an_unknown_delivery_is_unknown
            ]
            ends [
                a_lane_ends_in_steps
                a_lane_may_fail_as_well
                what_is_in_a_batch_is_not_touched
                only_what_was_created_before_ends
                a_young_delivery_of_an_old_event_is_spared
                other_lanes_go_on
                a_closed_lane_ends_too
            ]
            erase [
                what_a_tenant_left_is_erased
                chunks_are_written_anew_again
                what_is_still_to_be_done_is_erased_later
                a_name_that_is_taken_again_keeps_its_own
                who_watches_sees_what_was_written_anew
            ]
            tombstones [
                what_is_left_of_an_event_keeps_its_place
                what_is_pending_is_called_off_first
                lists_go_on_over_tombstones
                what_is_held_nearby_keeps_nothing_of_it
                what_came_late_is_taken_away
                stripping_goes_on_where_it_was
            ]
            replay [
                a_success_is_replayed
                a_failure_is_replayed
                the_same_tag_makes_no_second_one
                a_replay_is_replayed
                a_replay_ends_by_itself
                what_is_served_is_replayed_on_demand_only
                replays_of_large_fan_outs_are_all_looked_at
                an_event_that_is_gone_cannot_be_replayed
                many_are_replayed_in_one_step
            ]
            fill [
                a_missing_delivery_is_made_once
                what_went_well_at_once_is_not_missing
                what_waits_or_ended_is_not_missing
                an_event_that_nobody_wanted_is_wanted
                an_event_still_to_be_matched_is_left_alone
                of_many_at_once_one_makes_it
                what_is_gone_is_not_missing
            ]
            forward [
                a_retry_is_brought_forward
                what_is_not_waiting_for_its_time_stays
                a_closed_lane_stays_closed
                what_is_held_back_stays_so
                many_are_brought_forward_in_one_step
            ]
            events [
                events_are_listed_newest_first
                event_pages_neither_lose_nor_repeat
                event_pages_are_bounded_in_bytes
                events_are_filtered
                unmatched_events_are_found
                events_are_found_by_name
                an_unknown_event_is_not_found
            ]
            deliveries [
                a_success_without_a_record_is_found
                every_state_is_found
                a_delivery_shows_what_it_waits_for
                deliveries_of_unmatched_events_are_not_recorded_yet
                deliveries_are_listed_newest_event_first
                delivery_pages_neither_lose_nor_repeat
                deliveries_are_filtered
                deliveries_are_filtered_by_time
                replays_are_listed_beside_their_originals
                a_delivery_names_its_replays
                attempts_are_listed_oldest_first
            ]
            lane_log [
                a_lane_shows_what_waits
                a_closed_lane_says_until_when
                a_lane_that_a_breaker_closed_is_on_trial
                attempts_of_a_lane_are_found_newest_first
                ends_without_an_attempt_hide_no_attempts
                a_look_says_how_far_back_it_reached
                attempts_of_an_event_are_told_by_delivery
                filters_without_an_answer_are_counted
                a_filter_error_is_counted_once
                filter_errors_of_two_processes_add_up
                filter_errors_survive_a_restart
            ]
            backlog [
                nothing_waits
                events_wait_to_be_matched
                pending_deliveries_are_counted_by_age
                what_ended_waits_no_more
                a_large_fan_out_is_counted
            ]
            runs [
                each_that_waits_is_found
                each_goes_its_own_way
                many_end_together
                one_is_cancelled
                what_was_in_hand_comes_back
                a_late_one_keeps_its_own_age
                a_closed_lane_says_why_each_waits
                they_are_handed_out_in_the_order_of_their_events
            ]
            restart [
                everything_survives_a_restart
                leases_of_an_earlier_life_come_back
                a_token_of_an_earlier_life_settles_nothing
                closed_lanes_and_cancels_survive
                numbers_go_on_after_a_restart
            ]
            second [
                two_processes_share_the_work
                a_dead_process_is_taken_over
                two_control_planes_see_each_other
            ]
            test_sends [
                a_test_send_is_handed_over_and_answered
                a_test_send_that_nobody_takes_is_told
                a_test_send_that_nobody_answers_is_told
                a_test_send_goes_to_one_taker
                test_sends_are_taken_in_order
                test_sends_under_way_are_bounded
                a_large_answer_comes_back
                an_expired_test_send_is_not_handed_out
                an_answer_that_nobody_waits_for_is_harmless
                of_two_answers_the_first_counts
                a_test_send_crosses_processes
            ]
            rates [
                a_rate_gives_its_burst_and_then_its_pace
                rates_are_apart
                what_is_not_used_lapses
                a_rate_that_changes_holds_from_then_on
                many_rates_are_asked_for_at_once
                a_restart_gives_no_second_burst
                two_processes_share_a_rate
            ]
            watch [
                what_happens_is_seen_in_order
                what_is_seen_is_what_is_recorded
                ends_without_an_attempt_are_seen
                a_watcher_sees_what_it_asked_for
                a_watcher_reads_in_bounded_steps
                a_late_result_moves_nothing
                a_replay_is_seen_under_its_own_name
                a_retry_says_what_it_waits_for
                a_place_of_another_history_is_a_gap
                a_watcher_is_woken
                a_watch_crosses_processes
                a_place_survives_a_restart
            ]
            large [
                a_large_lane_is_closed_opened_and_cancelled
            ]
            histories [
                random_histories_keep_every_promise
            ]
        }
    };
}

/// Writes the tests of [`conformance_suite!`](crate::conformance_suite).
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_cases {
    ($open:path, $($module:ident [ $($case:ident)* ])*) => { $(
        mod $module {
            #[allow(unused_imports, reason = "the opening function may be named by a path")]
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let mut rig = $open().await;
                    $crate::conformance::$module::$case(&mut rig).await;
                    rig.finish().await;
                }
            )*
        }
    )* };
}

#[cfg(test)]
mod tests;
