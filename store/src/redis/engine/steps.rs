//! The scripts by name: what is in `lua/`, with the numbers that they share with the codec.

use std::sync::LazyLock;

use pregon_core::outcome::{EndReason, PendingReason};

use crate::codec::stored::{HEAD_ERASED, SCHEDULED, end_code, pending_code};
use crate::redis::engine::script::Script;
use crate::watch::ENDS_KEPT;

/// Every script of a partition.
pub(in crate::redis) struct Steps {
    pub publish: Script,
    pub take: Script,
    pub due: Script,
    pub take_over: Script,
    pub settle: Script,
    pub extend: Script,
    pub release: Script,
    pub lanes: Script,
    pub end_lane: Script,
    pub cancel: Script,
    pub cancel_event: Script,
    pub replay: Script,
    pub fill: Script,
    /// The same, where nothing is to be made.
    pub look_for_gaps: Script,
    pub forward: Script,
    pub books: Script,
    pub outstanding: Script,
    pub supersede: Script,
    pub erase: Script,
    pub tombstone: Script,
    pub rewrite: Script,
    pub backlog: Script,
    pub stage: Script,
    pub find: Script,
    pub trim: Script,
    pub sweep: Script,
    pub fence: Script,
    pub send_test: Script,
    pub take_tests: Script,
    pub settle_test: Script,
    pub withdraw_test: Script,
    pub rate: Script,
}

/// Steps that accept work: refused before anything runs when Redis is out of memory.
const ACCEPT: &str = "";
/// Steps that finish work: they run when Redis is out of memory, for they are what frees it.
const FINISH: &str = "allow-oom";
/// Steps that write nothing.
const READ: &str = "no-writes";

/// All of them.
pub(in crate::redis) static STEPS: LazyLock<Steps> = LazyLock::new(|| {
    let (prelude, with_runs) = (prelude(), prelude_of_runs());
    let script = |flags: &str, body: &str| Script::new(flags, &prelude, body);
    let of_runs = |flags: &str, body: &str| Script::new(flags, &with_runs, body);
    Steps {
        publish: of_runs(ACCEPT, include_str!("../lua/publish.lua")),
        take: script(FINISH, include_str!("../lua/take.lua")),
        due: of_runs(FINISH, include_str!("../lua/due.lua")),
        take_over: of_runs(FINISH, include_str!("../lua/takeover.lua")),
        settle: of_runs(FINISH, include_str!("../lua/settle.lua")),
        extend: script(FINISH, include_str!("../lua/extend.lua")),
        release: script(FINISH, include_str!("../lua/release.lua")),
        lanes: script(FINISH, include_str!("../lua/lanes.lua")),
        end_lane: of_runs(FINISH, include_str!("../lua/end_lane.lua")),
        cancel: of_runs(FINISH, include_str!("../lua/cancel.lua")),
        cancel_event: script(FINISH, include_str!("../lua/cancel_event.lua")),
        replay: of_runs(ACCEPT, include_str!("../lua/replay.lua")),
        fill: of_runs(ACCEPT, include_str!("../lua/fill.lua")),
        look_for_gaps: of_runs(READ, include_str!("../lua/fill.lua")),
        forward: of_runs(FINISH, include_str!("../lua/forward.lua")),
        erase: of_runs(FINISH, include_str!("../lua/erase.lua")),
        tombstone: of_runs(FINISH, include_str!("../lua/tombstone.lua")),
        rewrite: script(FINISH, include_str!("../lua/rewrite.lua")),
        backlog: of_runs(READ, include_str!("../lua/backlog.lua")),
        books: of_runs(READ, include_str!("../lua/books.lua")),
        outstanding: script(READ, include_str!("../lua/outstanding.lua")),
        supersede: script(FINISH, include_str!("../lua/supersede.lua")),
        stage: script(READ, include_str!("../lua/stage.lua")),
        find: script(READ, include_str!("../lua/find.lua")),
        trim: of_runs(FINISH, include_str!("../lua/trim.lua")),
        sweep: of_runs(FINISH, include_str!("../lua/sweep.lua")),
        fence: script(FINISH, include_str!("../lua/fence.lua")),
        send_test: script(ACCEPT, include_str!("../lua/send_test.lua")),
        take_tests: script(FINISH, include_str!("../lua/take_tests.lua")),
        settle_test: script(ACCEPT, include_str!("../lua/settle_test.lua")),
        withdraw_test: script(FINISH, include_str!("../lua/withdraw_test.lua")),
        rate: script(FINISH, include_str!("../lua/rate.lua")),
    }
});

/// What is put before each that looks at runs.
pub fn prelude_of_runs() -> String {
    prelude() + include_str!("../lua/runs.lua")
}

/// What is put before each: numbers of reasons, then the files that all share.
fn prelude() -> String {
    let numbers = [
        ("QUEUED", pending_code(PendingReason::Queued)),
        ("AWAITING_REVISION", pending_code(PendingReason::AwaitingRevision)),
        ("SCHEDULED", SCHEDULED),
        ("TENANT_DELETED", end_code(EndReason::TenantDeleted)),
        ("SUSPECT", pending_code(PendingReason::Suspect)),
        ("BREAKER_OPEN", pending_code(PendingReason::BreakerOpen)),
        ("HEAD_ERASED", i64::from(HEAD_ERASED)),
        ("ENDS_KEPT", i64::try_from(ENDS_KEPT).unwrap_or(i64::MAX)),
    ];
    let mut text = String::new();
    for (name, number) in numbers {
        text.push_str(&format!("local {name} = {number}\n"));
    }
    text + include_str!("../lua/prelude.lua") + include_str!("../lua/records.lua")
}
