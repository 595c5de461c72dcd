//! Deletions: a receiver goes with its keys.

use pregon_core::error::Refusal;
use pregon_core::model::Secret;

use super::kind::Receiver;
use crate::catalog::Kind as _;
use crate::commit::{Answer, How, Plan, nothing, until_settled};
use crate::{Control, etag, parse};

/// What a request to delete a receiver says, by the names of its fields.
pub(crate) struct Deletion<'a> {
    pub name: &'a str,
    pub etag: &'a str,
    pub allow_missing: bool,
    pub validate_only: bool,
}

impl Control {
    /// Deletes a receiver.
    pub(crate) async fn delete_receiver<R: Receiver, A: Answer>(
        &self,
        deletion: Deletion<'_>,
    ) -> Result<A, Refusal> {
        let name = parse::only("name", R::parse_name(deletion.name))?;
        let _turn = self.turns.take(R::tenant(&name)).await;
        until_settled(|| self.try_delete::<R, A>(&name, &deletion)).await
    }

    async fn try_delete<R: Receiver, A: Answer>(
        &self,
        name: &R::Name,
        deletion: &Deletion<'_>,
    ) -> Result<Option<A>, Refusal> {
        let text = name.to_string();
        let family = self.find_family(R::tenant(name)).await?;
        let stored = self.find::<R>(&text).await?;
        let (Some(family), Some(stored)) = (family, stored) else {
            return nothing(deletion.allow_missing, R::WORD, text);
        };
        etag::check(deletion.etag, stored.revision, R::WORD, &text)?;
        let contract = stored.value.contract();
        let leans = self.lean_on([contract]).await?;
        let below = format!("{text}/secrets/");
        let secrets = self.names_below(Secret::collections(&below), &below).await?;
        let plan = Plan::new().remove(&text, stored.revision);
        let plan = secrets.into_iter().fold(plan, Plan::delete);
        let mut children = family.children;
        let count = R::count(&mut children);
        *count = count.saturating_sub(1);
        let plan = leans.change(family.change(plan, children), [(contract, -1)]);
        self.commit(plan, A::default(), &How::plain(deletion.validate_only)).await
    }
}
