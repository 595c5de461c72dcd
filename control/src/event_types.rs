//! EventTypeService.
//!
//! A schema is compiled and an example held against it before either is stored, so that nodes can
//! take them as they are. Subscriptions name event types by pattern, not by reference: deleting a
//! type touches none of them.

use std::collections::BTreeMap;

use pregon_core::error::{Refusal, Rule, Violations, Wrong};
use pregon_core::id::EventTypeId;
use pregon_core::model::{Common, EventType, Resource};
use pregon_core::redact::SensitiveRoot;
use pregon_core::schema::Schema;
use pregon_core::{json, limits};
use pregon_proto::v1;
use pregon_proto::v1::event_type_service_server::EventTypeService;
use pregon_rpc::caller::Caller;

use crate::Control;
use crate::catalog::{Kind, Stored};
use crate::commit::{How, Plan, nothing, until_settled};
use crate::mask::{Fields, Mask, put};
use crate::service::service;
use crate::{etag, map, parse};

mod import;

service! {
    /// The service of event types.
    EventTypes: EventTypeService {
        create_event_type(CreateEventTypeRequest by caller) -> CreateEventTypeResponse;
        get_event_type(GetEventTypeRequest) -> GetEventTypeResponse;
        list_event_types(ListEventTypesRequest) -> ListEventTypesResponse;
        update_event_type(UpdateEventTypeRequest) -> UpdateEventTypeResponse;
        delete_event_type(DeleteEventTypeRequest) -> DeleteEventTypeResponse;
        import_event_types(ImportEventTypesRequest) -> ImportEventTypesResponse;
    }
}

const IMMUTABLE: &[&str] = &["name"];
const OUTPUT_ONLY: &[&str] = &["create_time", "update_time", "revision", "etag"];

/// What a request says of an event type: the chosen fields, parsed.
#[derive(Clone, Debug, Default)]
struct Edit {
    display_name: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    description: Option<String>,
    json_schema: Option<String>,
    example: Option<String>,
    deprecated: Option<bool>,
    sensitive_paths: Option<Vec<String>>,
}

fn fields(given: &v1::EventType) -> Fields {
    let settable = vec![
        ("display_name", !given.display_name.is_empty()),
        ("labels", !given.labels.is_empty()),
        ("description", !given.description.is_empty()),
        ("json_schema", !given.json_schema.is_empty()),
        ("example", !given.example.is_empty()),
        ("deprecated", given.deprecated.is_some()),
        ("sensitive_paths", !given.sensitive_paths.is_empty()),
    ];
    Fields { settable, immutable: IMMUTABLE, output_only: OUTPUT_ONLY.to_vec() }
}

impl Edit {
    fn parse(
        given: &v1::EventType,
        mask: &Mask,
        data_limit: usize,
        wrong: &mut Violations,
    ) -> Self {
        let mut edit = Self::default();
        if mask.has("display_name") {
            let parsed = parse::display_name(&given.display_name);
            edit.display_name = wrong.check("event_type.display_name", parsed);
        }
        if mask.has("labels") {
            edit.labels = Some(parse::labels("event_type.labels", &given.labels, wrong));
        }
        if mask.has("description") {
            let parsed = parse::text(&given.description, limits::DESCRIPTION_LEN);
            edit.description = wrong.check("event_type.description", parsed);
        }
        if mask.has("json_schema") {
            edit.json_schema =
                wrong.check("event_type.json_schema", json_schema(&given.json_schema));
        }
        if mask.has("example") {
            edit.example = wrong.check("event_type.example", example(&given.example, data_limit));
        }
        if mask.has("deprecated") {
            edit.deprecated = Some(given.deprecated.unwrap_or(false));
        }
        if mask.has("sensitive_paths") {
            let (field, root) = ("event_type.sensitive_paths", SensitiveRoot::Event);
            edit.sensitive_paths =
                parse::sensitive_paths(field, &given.sensitive_paths, root, wrong);
        }
        edit
    }

    /// Changes an event type; the example must satisfy the schema if either was chosen.
    fn apply(&self, kind: &mut EventType) -> Result<(), Refusal> {
        put(&mut kind.common.display_name, self.display_name.as_ref());
        put(&mut kind.common.labels, self.labels.as_ref());
        put(&mut kind.description, self.description.as_ref());
        put(&mut kind.json_schema, self.json_schema.as_ref());
        put(&mut kind.example, self.example.as_ref());
        put(&mut kind.deprecated, self.deprecated.as_ref());
        put(&mut kind.sensitive_paths, self.sensitive_paths.as_ref());
        let touched = self.json_schema.is_some() || self.example.is_some();
        if touched && let Some(wrong) = mismatch(&kind.json_schema, &kind.example) {
            return Err(Refusal::field("event_type.example", wrong.rule, wrong.description));
        }
        Ok(())
    }
}

/// A schema that compiles, or none.
fn json_schema(text: &str) -> Result<String, Wrong> {
    if !text.is_empty() {
        Schema::compile(text)?;
    }
    Ok(text.to_owned())
}

/// Data as it could be published, or none.
fn example(text: &str, data_limit: usize) -> Result<String, Wrong> {
    if text.len() > data_limit {
        let words = format!("must be {data_limit} bytes at most, is {}", text.len());
        return Err(Wrong::new(Rule::EventTooLarge, words));
    }
    if !text.is_empty() {
        json::check(text.as_bytes(), limits::JSON_DEPTH)
            .map_err(|error| Wrong::new(Rule::EventJsonInvalid, error.to_string()))?;
    }
    Ok(text.to_owned())
}

/// How an example fails a schema, if both are there and it does.
fn mismatch(schema: &str, example: &str) -> Option<Wrong> {
    if schema.is_empty() || example.is_empty() {
        return None;
    }
    let schema = match Schema::compile(schema) {
        Ok(schema) => schema,
        Err(wrong) => return Some(wrong),
    };
    let failed = schema.validate(example.as_bytes()).err()?;
    Some(Wrong::new(Rule::EventSchemaMismatch, failed.to_string()))
}

/// An event type as the API shows it.
pub(crate) fn to_wire(stored: &Stored<EventType>) -> v1::EventType {
    let kind = &stored.value;
    v1::EventType {
        name: kind.id.name(),
        display_name: kind.common.display_name.clone(),
        labels: map::labels(&kind.common.labels),
        create_time: map::moment(kind.common.create_time),
        update_time: map::moment(kind.common.update_time),
        revision: stored.revision,
        etag: etag::of(stored.revision),
        description: kind.description.clone(),
        json_schema: kind.json_schema.clone(),
        example: kind.example.clone(),
        deprecated: Some(kind.deprecated),
        sensitive_paths: kind.sensitive_paths.clone(),
    }
}

impl Control {
    pub(crate) async fn create_event_type(
        &self,
        request: v1::CreateEventTypeRequest,
        caller: &Caller,
    ) -> Result<v1::CreateEventTypeResponse, Refusal> {
        let mut wrong = Violations::new();
        let id = wrong.check("event_type_id", EventTypeId::parse(&request.event_type_id));
        let options = (request.validate_only, request.request_id.as_str());
        let how = How::parse(caller, "CreateEventType", &request, options, &mut wrong);
        let given = request.event_type.clone().unwrap_or_default();
        let edit = self.whole_event_type(&given, &mut wrong);
        let (id, edit) = parse::done(wrong, id.map(|id| (id, edit)))?;
        until_settled(|| self.try_create_event_type(&id, &edit, &how)).await
    }

    async fn try_create_event_type(
        &self,
        id: &EventTypeId,
        edit: &Edit,
        how: &How,
    ) -> Result<Option<v1::CreateEventTypeResponse>, Refusal> {
        if let Some(answer) = self.recall(how).await? {
            return Ok(Some(answer));
        }
        if self.find::<EventType>(&id.name()).await?.is_some() {
            return Err(Refusal::exists(EventType::WORD, id.name()));
        }
        let kind = self.new_event_type(id, edit)?;
        let event_type = Some(to_wire(&kind));
        let answer = v1::CreateEventTypeResponse { event_type, ..Default::default() };
        self.commit(Plan::new().put(&Resource::EventType(kind.value), 0), answer, how).await
    }

    /// What a request says of every field.
    fn whole_event_type(&self, given: &v1::EventType, wrong: &mut Violations) -> Edit {
        Edit::parse(given, &Mask::all(&fields(given)), self.event_data_limit, wrong)
    }

    fn new_event_type(&self, id: &EventTypeId, edit: &Edit) -> Result<Stored<EventType>, Refusal> {
        let now = self.clock.now();
        let mut kind = EventType {
            id: id.clone(),
            common: Common { create_time: now, update_time: now, ..Common::default() },
            description: String::new(),
            json_schema: String::new(),
            example: String::new(),
            deprecated: false,
            sensitive_paths: Vec::new(),
        };
        edit.apply(&mut kind)?;
        Ok(Stored::new(kind))
    }

    pub(crate) async fn get_event_type(
        &self,
        request: v1::GetEventTypeRequest,
    ) -> Result<v1::GetEventTypeResponse, Refusal> {
        let id = parse::only("name", EventTypeId::parse_name(&request.name))?;
        let kind = self.fetch::<EventType>(&id.name()).await?;
        Ok(v1::GetEventTypeResponse { event_type: Some(to_wire(&kind)) })
    }

    pub(crate) async fn list_event_types(
        &self,
        mut request: v1::ListEventTypesRequest,
    ) -> Result<v1::ListEventTypesResponse, Refusal> {
        let mut wrong = Violations::new();
        let paging = self.paging(&mut request, &mut wrong);
        wrong.finish()?;
        let name = |kind: &EventType| kind.id.name();
        let (found, next) = self.page("eventTypes/", &paging, name, |_| true).await?;
        let event_types = found.iter().map(to_wire).collect();
        Ok(v1::ListEventTypesResponse { event_types, next_page_token: next })
    }

    pub(crate) async fn update_event_type(
        &self,
        request: v1::UpdateEventTypeRequest,
    ) -> Result<v1::UpdateEventTypeResponse, Refusal> {
        let given = parse::needed("event_type", request.event_type.as_ref())?;
        let mut wrong = Violations::new();
        let id = wrong.check("event_type.name", EventTypeId::parse_name(&given.name));
        let mask = Mask::parse(request.update_mask.as_ref(), &fields(given), &mut wrong);
        let edit = Edit::parse(given, &mask, self.event_data_limit, &mut wrong);
        let id = parse::done(wrong, id)?;
        until_settled(|| self.try_update_event_type(&id, given, &edit, &request)).await
    }

    async fn try_update_event_type(
        &self,
        id: &EventTypeId,
        given: &v1::EventType,
        edit: &Edit,
        request: &v1::UpdateEventTypeRequest,
    ) -> Result<Option<v1::UpdateEventTypeResponse>, Refusal> {
        let (kind, read) = match self.find::<EventType>(&id.name()).await? {
            Some(mut stored) => {
                etag::check(&given.etag, stored.revision, EventType::WORD, &id.name())?;
                edit.apply(&mut stored.value)?;
                stored.value.common.update_time = self.clock.now();
                (stored.value, stored.revision)
            }
            None if request.allow_missing => {
                etag::check(&given.etag, 0, EventType::WORD, &id.name())?;
                let mut wrong = Violations::new();
                let all = self.whole_event_type(given, &mut wrong);
                wrong.finish()?;
                (self.new_event_type(id, &all)?.value, 0)
            }
            None => return Err(Refusal::not_found(EventType::WORD, id.name())),
        };
        let plan = Plan::new().put(&Resource::EventType(kind.clone()), read);
        let event_type = Some(to_wire(&Stored::new(kind)));
        let answer = v1::UpdateEventTypeResponse { event_type, ..Default::default() };
        self.commit(plan, answer, &How::plain(request.validate_only)).await
    }

    pub(crate) async fn delete_event_type(
        &self,
        request: v1::DeleteEventTypeRequest,
    ) -> Result<v1::DeleteEventTypeResponse, Refusal> {
        let id = parse::only("name", EventTypeId::parse_name(&request.name))?;
        until_settled(|| self.try_delete_event_type(&id, &request)).await
    }

    async fn try_delete_event_type(
        &self,
        id: &EventTypeId,
        request: &v1::DeleteEventTypeRequest,
    ) -> Result<Option<v1::DeleteEventTypeResponse>, Refusal> {
        let answer = v1::DeleteEventTypeResponse::default();
        let Some(stored) = self.find::<EventType>(&id.name()).await? else {
            return nothing(request.allow_missing, EventType::WORD, id.name());
        };
        etag::check(&request.etag, stored.revision, EventType::WORD, &id.name())?;
        let plan = Plan::new().remove(id.name(), stored.revision);
        self.commit(plan, answer, &How::plain(request.validate_only)).await
    }
}
