//! Portal tokens: what an API key may do, lent for a while.

use pregon_core::error::{Reason, Refusal, Rule, Violations, Wrong};
use pregon_core::limits;
use pregon_core::model::Tenant;
use pregon_proto::v1;
use pregon_rpc::caller::{Caller, Role};
use pregon_rpc::portal::{Grant, USER_LEN};
use pregon_rpc::time;
use serde_json::json;

use super::draft::may_grant;
use crate::{Control, map, parse};

impl Control {
    pub(crate) async fn create_portal_token(
        &self,
        request: v1::CreatePortalTokenRequest,
        caller: &Caller,
    ) -> Result<v1::CreatePortalTokenResponse, Refusal> {
        let mut wrong = Violations::new();
        let tenant = wrong.check("tenant", parse::tenant_name(&request.tenant));
        let role = role(request.role, &mut wrong);
        let ttl = match &request.ttl {
            None => Some(limits::PORTAL_TTL_DEFAULT),
            Some(given) => {
                let range = limits::PORTAL_TTL_MIN..=limits::PORTAL_TTL_MAX;
                wrong.check("ttl", time::parse_duration_within(given, range))
            }
        };
        let user = wrong.check("user", user(&request.user));
        let parsed = tenant.zip(role).zip(ttl.zip(user));
        let ((tenant, role), (ttl, user)) = parse::done(wrong, parsed)?;
        may_grant(caller, Some(role))
            .map_err(|rule| Refusal::new(Reason::RoleMissing, format!("role {rule}")))?;
        let since = self.fetch::<Tenant>(&tenant.name()).await?.value.common.create_time;
        let end = self.clock.now().plus(ttl);
        let end = caller.end().map_or(end, |own| own.min(end));
        let lent = json!({"role": role.word(), "user": user, "expireTime": end.to_string()});
        let (role, maker, name) = (role.word().to_owned(), caller.maker(), tenant.name());
        let token = self.portal.seal(&Grant { tenant, since, role, user, end, maker });
        let token = token.ok_or_else(|| {
            Refusal::new(Reason::Internal, "the server has no key for portal tokens")
        })?;
        // It is handed over once that is on disk.
        self.lent(&name, lent.to_string()).await?;
        Ok(v1::CreatePortalTokenResponse {
            token: token.to_string(),
            expire_time: map::moment(end),
        })
    }
}

/// The role of a portal token.
fn role(given: i32, wrong: &mut Violations) -> Option<Role> {
    match parse::known("role", given, wrong)? {
        v1::ApiKeyRole::Unspecified | v1::ApiKeyRole::Viewer => Some(Role::Viewer),
        v1::ApiKeyRole::TenantManager => Some(Role::TenantManager),
        v1::ApiKeyRole::Auditor => Some(Role::Auditor),
        v1::ApiKeyRole::Admin | v1::ApiKeyRole::Operator | v1::ApiKeyRole::Publisher => {
            let text = "must be TENANT_MANAGER, VIEWER or AUDITOR";
            wrong.add("role", Rule::OutOfRange, text);
            None
        }
    }
}

/// The name of a user; it stands in the log and in names of actors.
fn user(given: &str) -> Result<String, Wrong> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'@');
    match given.len() <= USER_LEN && given.bytes().all(fits) {
        true => Ok(given.to_owned()),
        false => {
            let text = format!("must be up to {USER_LEN} of A-Z a-z 0-9 _ - . @");
            Err(Wrong::new(Rule::Malformed, text))
        }
    }
}
