//! ContractService, and which contracts there are (`registry`).
//!
//! A document is read whole before it is stored, its own examples included, so nodes can take it as
//! it is; one that extends another contract is put together with it first (`given`), and again when
//! that changes (`rewrite`). Who uses a contract is counted beside it (`uses`), and who extends it is
//! noted there (`children`): one that is used or extended stays, and changes only as far as all of
//! them fit (`users`). Built-in ones are listed among the stored ones, and stay as they are.

use std::collections::BTreeMap;

use pregon_core::contract::{BuiltIn, Contract, builtins};
use pregon_core::error::{Reason, Refusal, Violations};
use pregon_core::id::ContractId;
use pregon_core::model::{Common, ContractDocument, Resource};
use pregon_proto::v1;
use pregon_proto::v1::contract_service_server::ContractService;
use pregon_rpc::caller::Caller;

use crate::Control;
use crate::catalog::{Kind, Stored};
use crate::commit::{How, Plan, nothing, until_settled};
use crate::listing::PAGE_BYTES;
use crate::mask::{Fields, Mask, put};
use crate::service::service;
use crate::{etag, map, parse};

mod children;
mod count;
mod find;
mod given;
mod registry;
mod rewrite;
mod start;
mod users;
mod uses;

use given::Given;
pub(crate) use registry::Registry;
use registry::built_in;
use rewrite::Grounds;

service! {
    /// The service of contracts.
    Contracts: ContractService {
        create_contract(CreateContractRequest by caller) -> CreateContractResponse;
        get_contract(GetContractRequest) -> GetContractResponse;
        list_contracts(ListContractsRequest) -> ListContractsResponse;
        update_contract(UpdateContractRequest) -> UpdateContractResponse;
        delete_contract(DeleteContractRequest) -> DeleteContractResponse;
    }
}

const IMMUTABLE: &[&str] = &["name"];
const OUTPUT_ONLY: &[&str] = &[
    "create_time",
    "update_time",
    "revision",
    "etag",
    "built_in",
    "event_types",
    "description",
    "importable_event_types",
    "composed",
];
/// Contracts that one call to the store lists: twice 64 KiB each at most.
const CHUNK: usize = 25;

/// What a request says of a contract: the chosen fields, parsed.
#[derive(Clone, Debug, Default)]
struct Edit {
    display_name: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    document: Option<Given>,
}

fn fields(given: &v1::Contract) -> Fields {
    let settable = vec![
        ("display_name", !given.display_name.is_empty()),
        ("labels", !given.labels.is_empty()),
        ("document", !given.document.is_empty()),
    ];
    Fields { settable, immutable: IMMUTABLE, output_only: OUTPUT_ONLY.to_vec() }
}

impl Edit {
    fn parse(
        given: &v1::Contract,
        id: Option<&ContractId>,
        mask: &Mask,
        wrong: &mut Violations,
    ) -> Self {
        let mut edit = Self::default();
        if mask.has("display_name") {
            let parsed = parse::display_name(&given.display_name);
            edit.display_name = wrong.check("contract.display_name", parsed);
        }
        if mask.has("labels") {
            edit.labels = Some(parse::labels("contract.labels", &given.labels, wrong));
        }
        if mask.has("document") {
            edit.document = Given::parse(&given.document, id, wrong);
        }
        edit
    }

    fn apply(&self, contract: &mut ContractDocument) {
        put(&mut contract.common.display_name, self.display_name.as_ref());
        put(&mut contract.common.labels, self.labels.as_ref());
    }
}

/// The refusal to change what comes with Pregón.
fn check_own(id: &ContractId) -> Result<(), Refusal> {
    if built_in(id).is_none() {
        return Ok(());
    }
    let message = format!("{} is built in: give one of your own another id", id.name());
    Err(Refusal::new(Reason::BuiltIn, message).about(ContractDocument::WORD, id.name()))
}

/// What the contract says of itself.
fn described(contract: &Contract) -> v1::Contract {
    v1::Contract {
        name: contract.id().name(),
        event_types: contract.event_types().iter().cloned().map(String::from).collect(),
        description: contract.description().to_owned(),
        importable_event_types: contract.types().iter().map(|it| it.id.name()).collect(),
        ..Default::default()
    }
}

fn shown_built_in(it: &BuiltIn) -> v1::Contract {
    let document = it.document.to_owned();
    v1::Contract { document, built_in: true, ..described(&it.contract) }
}

/// A contract of one's own as the API shows it; where it is not compiled, without what that would tell.
pub(crate) fn to_wire(
    stored: &Stored<ContractDocument>,
    contract: Option<&Contract>,
) -> v1::Contract {
    let it = &stored.value;
    let whole = it.source.is_empty();
    v1::Contract {
        name: it.id.name(),
        display_name: it.common.display_name.clone(),
        labels: map::labels(&it.common.labels),
        create_time: map::moment(it.common.create_time),
        update_time: map::moment(it.common.update_time),
        revision: stored.revision,
        etag: etag::of(stored.revision),
        document: it.source().to_owned(),
        composed: if whole { String::new() } else { it.document.clone() },
        ..contract.map(described).unwrap_or_default()
    }
}

impl Control {
    pub(crate) async fn create_contract(
        &self,
        request: v1::CreateContractRequest,
        caller: &Caller,
    ) -> Result<v1::CreateContractResponse, Refusal> {
        let mut wrong = Violations::new();
        let id = wrong.check("contract_id", ContractId::parse(&request.contract_id));
        let options = (request.validate_only, request.request_id.as_str());
        let how = How::parse(caller, "CreateContract", &request, options, &mut wrong);
        if let Some(id) = &id {
            check_own(id)?;
        }
        let given = start::begun(&request, id.as_ref(), &mut wrong)?;
        let edit = given.map(|given| whole(&given, id.as_ref(), &mut wrong));
        let document = edit.as_ref().and_then(|edit| edit.document.as_ref());
        self.note_faults(document, &mut wrong).await?;
        let (id, edit) = parse::done(wrong, id.zip(edit))?;
        let _turn = self.contract_turn.lock().await;
        until_settled(|| self.try_create_contract(&id, &edit, &how)).await
    }

    async fn try_create_contract(
        &self,
        id: &ContractId,
        edit: &Edit,
        how: &How,
    ) -> Result<Option<v1::CreateContractResponse>, Refusal> {
        if let Some(answer) = self.recall(how).await? {
            return Ok(Some(answer));
        }
        if self.find::<ContractDocument>(&id.name()).await?.is_some() {
            return Err(Refusal::exists(ContractDocument::WORD, id.name()));
        }
        let (plan, contract) = self.contract_birth(id, edit).await?;
        let answer = v1::CreateContractResponse { contract: Some(contract), ..Default::default() };
        self.commit(plan, answer, how).await
    }

    /// The plan that brings a contract into being.
    async fn contract_birth(
        &self,
        id: &ContractId,
        edit: &Edit,
    ) -> Result<(Plan, v1::Contract), Refusal> {
        let count = self.count_contracts().await?;
        let now = self.clock.now();
        let mut contract = ContractDocument {
            id: id.clone(),
            common: Common { create_time: now, update_time: now, ..Common::default() },
            document: String::new(),
            source: String::new(),
            document_revision: 0,
        };
        edit.apply(&mut contract);
        let (mut plan, mut compiled) = (Plan::new(), None);
        if let Some(given) = &edit.document {
            let (ready, parent) = self.ready(given).await?;
            ready.apply(&mut contract);
            if let Some(parent) = parent {
                plan = parent.joined(plan, id)?;
            }
            compiled = Some(ready.contract);
        }
        let plan = count.one_more(plan.put(&Resource::Contract(contract.clone()), 0))?;
        Ok((plan, to_wire(&Stored::new(contract), compiled.as_deref())))
    }

    pub(crate) async fn get_contract(
        &self,
        request: v1::GetContractRequest,
    ) -> Result<v1::GetContractResponse, Refusal> {
        if let Some(entry) = start::shown_entry(&request.name)? {
            return Ok(v1::GetContractResponse { contract: Some(entry) });
        }
        let id = parse::only("name", ContractId::parse_name(&request.name))?;
        let contract = match built_in(&id) {
            Some(it) => shown_built_in(it),
            None => self.shown_contract(&self.fetch::<ContractDocument>(&id.name()).await?),
        };
        Ok(v1::GetContractResponse { contract: Some(contract) })
    }

    /// A stored contract as the API shows it. One that cannot be read any more, which is logged, is
    /// shown without what it says.
    pub(crate) fn shown_contract(&self, stored: &Stored<ContractDocument>) -> v1::Contract {
        to_wire(stored, self.contracts.compiled(stored).ok().as_deref())
    }

    pub(crate) async fn list_contracts(
        &self,
        mut request: v1::ListContractsRequest,
    ) -> Result<v1::ListContractsResponse, Refusal> {
        let mut wrong = Violations::new();
        let paging = self.paging(&mut request, &mut wrong);
        wrong.finish()?;
        if request.catalog {
            return Ok(self.list_catalog(&paging).await);
        }
        let mut after = paging.from.clone().unwrap_or_default();
        let (mut contracts, mut bytes) = (Vec::new(), 0);
        loop {
            let chunk = self.list::<ContractDocument>("contracts/", &after, CHUNK).await?;
            let end = chunk.get(CHUNK - 1).map(|it| it.value.id.name());
            for contract in self.merged(&chunk, &after, end.as_deref()) {
                let size = prost::Message::encoded_len(&contract);
                let full = contracts.len() == paging.size
                    || (bytes + size > PAGE_BYTES && !contracts.is_empty());
                if full {
                    let next_page_token = self.next_page(&paging, Some(&after));
                    return Ok(v1::ListContractsResponse { contracts, next_page_token });
                }
                bytes += size;
                after.clone_from(&contract.name);
                contracts.push(contract);
            }
            match end {
                Some(end) => after = end,
                None => {
                    let next_page_token = String::new();
                    return Ok(v1::ListContractsResponse { contracts, next_page_token });
                }
            }
        }
    }

    /// Stored contracts and the built-in ones that stand among them, after a name and up to `end`
    /// (none: to the last), by name.
    fn merged(
        &self,
        stored: &[Stored<ContractDocument>],
        after: &str,
        end: Option<&str>,
    ) -> Vec<v1::Contract> {
        let own = stored.iter().filter(|it| built_in(&it.value.id).is_none());
        let mut merged: Vec<_> = own.map(|it| self.shown_contract(it)).collect();
        let within = |name: &str| name > after && end.is_none_or(|end| name <= end);
        let ours = builtins().iter().filter(|it| within(&it.contract.id().name()));
        merged.extend(ours.map(shown_built_in));
        merged.sort_by(|a, b| a.name.cmp(&b.name));
        merged
    }

    pub(crate) async fn update_contract(
        &self,
        request: v1::UpdateContractRequest,
    ) -> Result<v1::UpdateContractResponse, Refusal> {
        let given = parse::needed("contract", request.contract.as_ref())?;
        start::check_not_of_catalog(&given.name)?;
        let mut wrong = Violations::new();
        let id = wrong.check("contract.name", ContractId::parse_name(&given.name));
        if let Some(id) = &id {
            check_own(id)?;
        }
        let mask = Mask::parse(request.update_mask.as_ref(), &fields(given), &mut wrong);
        let edit = Edit::parse(given, id.as_ref(), &mask, &mut wrong);
        self.note_faults(edit.document.as_ref(), &mut wrong).await?;
        let id = parse::done(wrong, id)?;
        let _turn = self.contract_turn.lock().await;
        until_settled(|| self.try_update_contract(&id, given, &edit, &request)).await
    }

    async fn try_update_contract(
        &self,
        id: &ContractId,
        given: &v1::Contract,
        edit: &Edit,
        request: &v1::UpdateContractRequest,
    ) -> Result<Option<v1::UpdateContractResponse>, Refusal> {
        let how = How::plain(request.validate_only);
        let grounds = self.grounds_of(id).await?;
        let (plan, contract) = match self.find::<ContractDocument>(&id.name()).await? {
            Some(stored) => {
                etag::check(&given.etag, stored.revision, ContractDocument::WORD, &id.name())?;
                let mut shown = self.contracts.compiled(&stored).ok();
                let (mut plan, mut now) = (Plan::new(), stored.value.clone());
                edit.apply(&mut now);
                if let Some(given) = &edit.document {
                    let after;
                    (plan, after) = self.rewrite(plan, grounds, shown, &mut now, given).await?;
                    shown = Some(after);
                }
                // Attempts that were made under the document can be shown as long as it stays.
                now.document_revision = match now.document == stored.value.document {
                    true => stored.value.written_at(stored.revision),
                    false => 0,
                };
                now.common.update_time = self.clock.now();
                plan = plan.put(&Resource::Contract(now.clone()), stored.revision);
                (plan, to_wire(&Stored::new(now), shown.as_deref()))
            }
            None if request.allow_missing => {
                etag::check(&given.etag, 0, ContractDocument::WORD, &id.name())?;
                let mut wrong = Violations::new();
                let all = whole(given, Some(id), &mut wrong);
                wrong.finish()?;
                self.contract_birth(id, &all).await?
            }
            None => return Err(Refusal::not_found(ContractDocument::WORD, id.name())),
        };
        let answer = v1::UpdateContractResponse { contract: Some(contract), ..Default::default() };
        self.commit(plan, answer, &how).await
    }

    pub(crate) async fn delete_contract(
        &self,
        request: v1::DeleteContractRequest,
    ) -> Result<v1::DeleteContractResponse, Refusal> {
        start::check_not_of_catalog(&request.name)?;
        let id = parse::only("name", ContractId::parse_name(&request.name))?;
        check_own(&id)?;
        let _turn = self.contract_turn.lock().await;
        until_settled(|| self.try_delete_contract(&id, &request)).await
    }

    async fn try_delete_contract(
        &self,
        id: &ContractId,
        request: &v1::DeleteContractRequest,
    ) -> Result<Option<v1::DeleteContractResponse>, Refusal> {
        let answer = v1::DeleteContractResponse::default();
        let Grounds { uses, children } = self.grounds_of(id).await?;
        let count = self.count_contracts().await?;
        let Some(stored) = self.find::<ContractDocument>(&id.name()).await? else {
            return nothing(request.allow_missing, ContractDocument::WORD, id.name());
        };
        etag::check(&request.etag, stored.revision, ContractDocument::WORD, &id.name())?;
        if uses.users > 0 {
            return Err(self.used(id, uses.users).await?);
        }
        if !children.ids().is_empty() {
            return Err(users::extended(id, children.ids()));
        }
        let mut plan = Plan::new().remove(id.name(), stored.revision);
        if let Some(parent) = children::parent(&stored.value) {
            plan = self.children_of(&parent).await?.without(plan, id);
        }
        let plan = uses.end(children.stay(plan), id);
        self.commit(count.one_less(plan), answer, &How::plain(request.validate_only)).await
    }
}

/// What a request says of every field.
fn whole(given: &v1::Contract, id: Option<&ContractId>, wrong: &mut Violations) -> Edit {
    Edit::parse(given, id, &Mask::all(&fields(given)), wrong)
}
