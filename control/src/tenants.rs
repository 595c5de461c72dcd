//! TenantService.
//!
//! A tenant is deleted with its children or not at all: [`family`](crate::family) sees to it that
//! none slips in between.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pregon_core::clock::Timestamp;
use pregon_core::error::{Reason, Refusal, Violations};
use pregon_core::id::{ContractId, PoolName, TenantId};
use pregon_core::limits;
use pregon_core::model::{Callback, Common, Resource, Secret, Subscription, Tenant, TenantLimits};
use pregon_core::rate::MILLI_MAX;
use pregon_core::url::{EgressRule, EgressRules};
use pregon_proto::v1;
use pregon_proto::v1::tenant_service_server::TenantService;
use pregon_rpc::caller::Caller;
use pregon_store::operate::Former;

use crate::Control;
use crate::catalog::{Kind, Stored};
use crate::commit::{How, Plan, nothing, until_settled};
use crate::family::Children;
use crate::mask::{Fields, Mask, put};
use crate::receiver::Receiver;
use crate::remains;
use crate::service::service;
use crate::{etag, map, parse};

service! {
    /// The service of tenants.
    Tenants: TenantService {
        create_tenant(CreateTenantRequest by caller) -> CreateTenantResponse;
        get_tenant(GetTenantRequest) -> GetTenantResponse;
        list_tenants(ListTenantsRequest) -> ListTenantsResponse;
        update_tenant(UpdateTenantRequest) -> UpdateTenantResponse;
        delete_tenant(DeleteTenantRequest) -> DeleteTenantResponse;
    }
}

const IMMUTABLE: &[&str] = &["name"];
const OUTPUT_ONLY: &[&str] = &["create_time", "update_time", "revision", "etag"];

/// What a request says of a tenant: the chosen fields, parsed.
#[derive(Clone, Debug, Default)]
struct Edit {
    display_name: Option<String>,
    labels: Option<std::collections::BTreeMap<String, String>>,
    suspended: Option<bool>,
    max_subscriptions: Option<u32>,
    publish_per_second: Option<u32>,
    attempts_per_second: Option<u32>,
    max_pending: Option<u32>,
    egress: Option<Option<PoolName>>,
    allow: Option<Vec<EgressRule>>,
    deny: Option<Vec<EgressRule>>,
}

/// The fields of a tenant as the wire has them.
fn fields(given: &v1::Tenant) -> Fields {
    let limits = given.limits.unwrap_or_default();
    let rules = given.egress_rules.as_ref();
    let settable = vec![
        ("display_name", !given.display_name.is_empty()),
        ("labels", !given.labels.is_empty()),
        ("suspended", given.suspended.is_some()),
        ("limits.max_subscriptions", limits.max_subscriptions.is_some()),
        ("limits.publish_per_second", limits.publish_per_second.is_some()),
        ("limits.max_pending", limits.max_pending.is_some()),
        ("limits.attempts_per_second", limits.attempts_per_second.is_some()),
        ("egress", !given.egress.is_empty()),
        ("egress_rules.allow", rules.is_some_and(|rules| !rules.allow.is_empty())),
        ("egress_rules.deny", rules.is_some_and(|rules| !rules.deny.is_empty())),
    ];
    Fields { settable, immutable: IMMUTABLE, output_only: OUTPUT_ONLY.to_vec() }
}

impl Edit {
    fn parse(given: &v1::Tenant, mask: &Mask, wrong: &mut Violations) -> Self {
        let defaults = TenantLimits::default();
        let limits = given.limits.unwrap_or_default();
        let mut edit = Self::default();
        if mask.has("display_name") {
            edit.display_name =
                wrong.check("tenant.display_name", parse::display_name(&given.display_name));
        }
        if mask.has("labels") {
            edit.labels = Some(parse::labels("tenant.labels", &given.labels, wrong));
        }
        if mask.has("suspended") {
            edit.suspended = Some(given.suspended.unwrap_or(false));
        }
        let mut number =
            |path: &'static str, given: Option<i64>, default: u32, range: (u32, u32)| {
                let chosen = mask.has(path).then(|| given.unwrap_or(i64::from(default)))?;
                let (least, most) = (i64::from(range.0), i64::from(range.1));
                let parsed = parse::within(chosen, least, most);
                wrong.check(format!("tenant.{path}"), parsed).and_then(|n| u32::try_from(n).ok())
            };
        edit.max_subscriptions = number(
            "limits.max_subscriptions",
            limits.max_subscriptions.map(i64::from),
            defaults.max_subscriptions,
            (1, limits::SUBSCRIPTIONS_MAX),
        );
        edit.publish_per_second = number(
            "limits.publish_per_second",
            limits.publish_per_second.map(i64::from),
            defaults.publish_per_second,
            (0, i32::MAX.unsigned_abs()),
        );
        edit.attempts_per_second = number(
            "limits.attempts_per_second",
            limits.attempts_per_second.map(i64::from),
            defaults.attempts_per_second,
            (0, MILLI_MAX / 1000),
        );
        edit.max_pending =
            number("limits.max_pending", limits.max_pending, defaults.max_pending, (1, u32::MAX));
        if mask.has("egress") {
            edit.egress = parse::pool("tenant.egress", &given.egress, wrong);
        }
        let rules = given.egress_rules.clone().unwrap_or_default();
        let mut list = |path: &str, given: &[String]| {
            mask.has(path).then(|| parse::egress_rules(&format!("tenant.{path}"), given, wrong))?
        };
        edit.allow = list("egress_rules.allow", &rules.allow);
        edit.deny = list("egress_rules.deny", &rules.deny);
        edit
    }

    fn apply(&self, tenant: &mut Tenant) {
        put(&mut tenant.common.display_name, self.display_name.as_ref());
        put(&mut tenant.common.labels, self.labels.as_ref());
        put(&mut tenant.suspended, self.suspended.as_ref());
        put(&mut tenant.limits.max_subscriptions, self.max_subscriptions.as_ref());
        put(&mut tenant.limits.publish_per_second, self.publish_per_second.as_ref());
        put(&mut tenant.limits.attempts_per_second, self.attempts_per_second.as_ref());
        put(&mut tenant.limits.max_pending, self.max_pending.as_ref());
        put(&mut tenant.egress, self.egress.as_ref());
        put(&mut tenant.egress_rules.allow, self.allow.as_ref());
        put(&mut tenant.egress_rules.deny, self.deny.as_ref());
    }
}

/// A tenant as the API shows it.
pub(crate) fn to_wire(stored: &Stored<Tenant>) -> v1::Tenant {
    let tenant = &stored.value;
    v1::Tenant {
        name: tenant.id.name(),
        display_name: tenant.common.display_name.clone(),
        labels: map::labels(&tenant.common.labels),
        create_time: map::moment(tenant.common.create_time),
        update_time: map::moment(tenant.common.update_time),
        revision: stored.revision,
        etag: etag::of(stored.revision),
        suspended: Some(tenant.suspended),
        limits: Some(v1::TenantLimits {
            max_subscriptions: Some(map::small(tenant.limits.max_subscriptions)),
            publish_per_second: Some(map::small(tenant.limits.publish_per_second)),
            max_pending: Some(i64::from(tenant.limits.max_pending)),
            attempts_per_second: Some(map::small(tenant.limits.attempts_per_second)),
        }),
        egress: tenant.egress.as_ref().map(PoolName::to_string).unwrap_or_default(),
        egress_rules: (!tenant.egress_rules.is_empty()).then(|| {
            let texts = |rules: &[EgressRule]| rules.iter().map(EgressRule::to_string).collect();
            let EgressRules { allow, deny } = &tenant.egress_rules;
            v1::EgressRules { allow: texts(allow), deny: texts(deny) }
        }),
    }
}

impl Control {
    /// Notes that a tenant names an egress pool that there is not.
    fn check_pool(&self, edit: &Edit, wrong: &mut Violations) {
        if let Some(pool) = edit.egress.iter().flatten().next() {
            wrong.check("tenant.egress", self.contracts.pools().check(pool.as_str()));
        }
    }

    pub(crate) async fn create_tenant(
        &self,
        request: v1::CreateTenantRequest,
        caller: &Caller,
    ) -> Result<v1::CreateTenantResponse, Refusal> {
        let mut wrong = Violations::new();
        let id = wrong.check("tenant_id", parse::tenant_id(&request.tenant_id));
        let options = (request.validate_only, request.request_id.as_str());
        let how = How::parse(caller, "CreateTenant", &request, options, &mut wrong);
        let given = request.tenant.clone().unwrap_or_default();
        let edit = Edit::parse(&given, &Mask::all(&fields(&given)), &mut wrong);
        self.check_pool(&edit, &mut wrong);
        let (id, edit) = parse::done(wrong, id.map(|id| (id, edit)))?;
        let _turn = self.turns.take(&id).await;
        let since = Mutex::default();
        until_settled(|| self.try_create_tenant(&id, &edit, &how, &since)).await
    }

    async fn try_create_tenant(
        &self,
        id: &TenantId,
        edit: &Edit,
        how: &How,
        since: &Mutex<Option<Timestamp>>,
    ) -> Result<Option<v1::CreateTenantResponse>, Refusal> {
        if let Some(answer) = self.recall(how).await? {
            return Ok(Some(answer));
        }
        if self.find::<Tenant>(&id.name()).await?.is_some() {
            return Err(Refusal::exists(Tenant::WORD, id.name()));
        }
        let (tenant, plan) = self.new_tenant(id, edit, how.validate_only, since).await?;
        let answer =
            v1::CreateTenantResponse { tenant: Some(to_wire(&tenant)), ..Default::default() };
        self.commit(plan.put(&Resource::Tenant(tenant.value), 0), answer, how).await
    }

    /// A tenant that inherits nothing from an earlier one of the same name, and a plan in which what
    /// it will have is not erased with what that one left.
    async fn new_tenant(
        &self,
        id: &TenantId,
        edit: &Edit,
        validate_only: bool,
        known: &Mutex<Option<Timestamp>>,
    ) -> Result<(Stored<Tenant>, Plan), Refusal> {
        let remains = self.remains(id).await?;
        let former = match validate_only {
            true => Former::Nobody,
            false => self.store.operate.supersede(id).await?,
        };
        let since = match former {
            Former::Nobody if remains.is_some() => Some(self.store.operate.now().await?),
            Former::Nobody => None,
            Former::Gone(since) => Some(since),
            Former::Busy => return Err(busy(id)),
        };
        let unknown = self.without_lanes(id, Plan::new()).await?;
        // Decided again, it is told of nobody: what was accepted is counted anew.
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let since = since.max(*known);
        *known = since;
        drop(known);
        let now = self.clock.now();
        let common = Common { create_time: now, update_time: now, ..Common::default() };
        let (id, limits) = (id.clone(), TenantLimits::default());
        let (egress, egress_rules) = (None, EgressRules::default());
        let mut tenant =
            Tenant { id, common, suspended: false, limits, egress, egress_rules, since };
        edit.apply(&mut tenant);
        let plan = remains::spare(unknown, &tenant.id, remains, since);
        Ok((Stored::new(tenant), plan))
    }

    pub(crate) async fn get_tenant(
        &self,
        request: v1::GetTenantRequest,
    ) -> Result<v1::GetTenantResponse, Refusal> {
        let id = parse::only("name", parse::tenant_name(&request.name))?;
        let tenant = self.fetch::<Tenant>(&id.name()).await?;
        Ok(v1::GetTenantResponse { tenant: Some(to_wire(&tenant)) })
    }

    pub(crate) async fn list_tenants(
        &self,
        mut request: v1::ListTenantsRequest,
    ) -> Result<v1::ListTenantsResponse, Refusal> {
        let mut wrong = Violations::new();
        let paging = self.paging(&mut request, &mut wrong);
        wrong.finish()?;
        let name = |tenant: &Tenant| tenant.id.name();
        let (found, next) = self.page("tenants/", &paging, name, |_| true).await?;
        let tenants = found.iter().map(to_wire).collect();
        Ok(v1::ListTenantsResponse { tenants, next_page_token: next })
    }

    pub(crate) async fn update_tenant(
        &self,
        request: v1::UpdateTenantRequest,
    ) -> Result<v1::UpdateTenantResponse, Refusal> {
        let given = parse::needed("tenant", request.tenant.as_ref())?;
        let mut wrong = Violations::new();
        let id = wrong.check("tenant.name", parse::tenant_name(&given.name));
        let mask = Mask::parse(request.update_mask.as_ref(), &fields(given), &mut wrong);
        let edit = Edit::parse(given, &mask, &mut wrong);
        self.check_pool(&edit, &mut wrong);
        let id = parse::done(wrong, id)?;
        let since = Mutex::default();
        until_settled(|| self.try_update_tenant(&id, given, &edit, (&request, &since))).await
    }

    async fn try_update_tenant(
        &self,
        id: &TenantId,
        given: &v1::Tenant,
        edit: &Edit,
        (request, since): (&v1::UpdateTenantRequest, &Mutex<Option<Timestamp>>),
    ) -> Result<Option<v1::UpdateTenantResponse>, Refusal> {
        let (tenant, read, plan) = match self.find::<Tenant>(&id.name()).await? {
            Some(mut stored) => {
                etag::check(&given.etag, stored.revision, Tenant::WORD, &id.name())?;
                edit.apply(&mut stored.value);
                stored.value.common.update_time = self.clock.now();
                (stored.value, stored.revision, Plan::new())
            }
            None if request.allow_missing => {
                etag::check(&given.etag, 0, Tenant::WORD, &id.name())?;
                let mut wrong = Violations::new();
                let all = Edit::parse(given, &Mask::all(&fields(given)), &mut wrong);
                wrong.finish()?;
                let made = self.new_tenant(id, &all, request.validate_only, since);
                let (tenant, plan) = made.await?;
                (tenant.value, 0, plan)
            }
            None => return Err(Refusal::not_found(Tenant::WORD, id.name())),
        };
        let plan = plan.put(&Resource::Tenant(tenant.clone()), read);
        let tenant = Some(to_wire(&Stored::new(tenant)));
        let answer = v1::UpdateTenantResponse { tenant, ..Default::default() };
        self.commit(plan, answer, &How::plain(request.validate_only)).await
    }

    pub(crate) async fn delete_tenant(
        &self,
        request: v1::DeleteTenantRequest,
    ) -> Result<v1::DeleteTenantResponse, Refusal> {
        let id = parse::only("name", parse::tenant_name(&request.name))?;
        let _turn = self.turns.take(&id).await;
        until_settled(|| self.try_delete_tenant(&id, &request)).await
    }

    async fn try_delete_tenant(
        &self,
        id: &TenantId,
        request: &v1::DeleteTenantRequest,
    ) -> Result<Option<v1::DeleteTenantResponse>, Refusal> {
        let answer = v1::DeleteTenantResponse::default();
        let Some(family) = self.find_family(id).await? else {
            return nothing(request.allow_missing, Tenant::WORD, id.name());
        };
        let read = family.tenant.revision;
        etag::check(&request.etag, read, Tenant::WORD, &id.name())?;
        let mut plan = remains::left(family.end(Plan::new().remove(id.name(), read)), id);
        let mut users: Vec<ContractId> = Vec::new();
        plan = self.delete_all::<Subscription>(id, plan, &mut users).await?;
        plan = self.delete_all::<Callback>(id, plan, &mut users).await?;
        if !users.is_empty() && !request.force {
            return Err(children_exist(id, family.children));
        }
        let collections = [Subscription::COLLECTION, Callback::COLLECTION];
        for below in collections.map(|collection| format!("{}/{collection}/", id.name())) {
            let secrets = self.names_below(Secret::collections(&below), &below).await?;
            plan = secrets.into_iter().fold(plan, Plan::delete);
        }
        let plan = self.without_keys(id, plan).await?;
        let leans = self.lean_on(&users).await?;
        let plan = leans.change(plan, users.iter().map(|contract| (contract, -1)));
        self.commit(plan, answer, &How::plain(request.validate_only)).await
    }

    /// Adds to a plan that all receivers of a kind go, and their contracts to `users`.
    async fn delete_all<R: Receiver>(
        &self,
        id: &TenantId,
        plan: Plan,
        users: &mut Vec<ContractId>,
    ) -> Result<Plan, Refusal> {
        let below = format!("{}/{}/", id.name(), R::COLLECTION);
        let all = self.all_below::<R>(&below, |it| it.name().to_string()).await?;
        users.extend(all.iter().map(|it| it.value.contract().clone()));
        Ok(all.iter().fold(plan, |plan, it| plan.delete(it.value.name().to_string())))
    }
}

fn busy(id: &TenantId) -> Refusal {
    let name = id.name();
    let message = format!(
        "what was published for an earlier {name} is still being ended; try again in a moment"
    );
    Refusal::new(Reason::StateConflict, message)
        .about(Tenant::WORD, name)
        .retry_after(Duration::from_secs(1))
}

fn children_exist(id: &TenantId, children: Children) -> Refusal {
    let name = id.name();
    let Children { subscriptions, callbacks } = children;
    let message = format!(
        "{name} has {subscriptions} subscriptions and {callbacks} callbacks; set force to delete \
         them too"
    );
    Refusal::new(Reason::ChildrenExist, message).about(Tenant::WORD, name)
}
