//! The books, as the store keeps them.

use pregon_core::error::Violations;
use pregon_store::log::Orphan;

use super::{Control, Refusal, Scope, map, parse, v1};

impl Control {
    pub(crate) async fn get_reconciliation_report(
        &self,
        request: v1::GetReconciliationReportRequest,
    ) -> Result<v1::GetReconciliationReportResponse, Refusal> {
        let mut wrong = Violations::new();
        let scope = wrong.check("parent", Scope::parse(&request.parent));
        // Counts are kept since the beginning, not by the hour.
        parse::unsupported("time_range", request.time_range.is_some(), &mut wrong);
        let scope = parse::done(wrong, scope)?;
        self.check_scope(&scope).await?;
        let books = self.store.log.books(scope.tenant()).await?;
        let orphans = match scope {
            Scope::All => self.orphans().await?,
            Scope::Tenant(_) => Vec::new(),
        };
        Ok(v1::GetReconciliationReportResponse {
            events: Some(v1::EventCounts {
                accepted: map::count(books.accepted),
                matched: map::count(books.matched),
                unmatched: map::count(books.unmatched),
                awaiting_match: map::count(books.waiting),
                scheduled: map::count(books.scheduled),
                cancelled: map::count(books.called_off),
            }),
            deliveries: Some(v1::DeliveryCounts {
                created: map::count(books.created),
                succeeded: map::count(books.succeeded),
                failed: map::count(books.failed),
                cancelled: map::count(books.cancelled),
                pending: map::count(books.pending),
            }),
            orphans,
            as_of: map::moment(self.clock.now()),
        })
    }

    /// What the store's own walk through its structure finds.
    async fn orphans(&self) -> Result<Vec<v1::Orphan>, Refusal> {
        let shown = |found: Orphan| v1::Orphan {
            name: found.name,
            kind: found.kind.to_uppercase(),
            detail: found.detail,
        };
        Ok(self.store.log.audit().await?.into_iter().map(shown).collect())
    }
}
