//! ImportEventTypes: what a contract brings along becomes part of the catalogue.
//!
//! A type that exists stays as it is, whatever the contract says of it: somebody may have changed it
//! since, and stored events went by it.

use pregon_core::contract::ContractType;
use pregon_core::id::ContractId;
use pregon_core::model::{Common, EventType, Resource};

use super::{Control, How, Plan, Refusal, Stored, parse, to_wire, until_settled, v1};
use crate::catalog;

impl Control {
    pub(crate) async fn import_event_types(
        &self,
        request: v1::ImportEventTypesRequest,
    ) -> Result<v1::ImportEventTypesResponse, Refusal> {
        let id = parse::only("contract", ContractId::parse_name(&request.contract))?;
        let contract = self.contract(&id).await?;
        let types = contract.types();
        until_settled(|| self.try_import_event_types(types, request.validate_only)).await
    }

    async fn try_import_event_types(
        &self,
        types: &[ContractType],
        validate_only: bool,
    ) -> Result<Option<v1::ImportEventTypesResponse>, Refusal> {
        let names: Vec<_> = types.iter().map(|kind| kind.id.name()).collect();
        let found = self.store.config.get(&names).await?;
        let (mut plan, mut answer) = (Plan::new(), v1::ImportEventTypesResponse::default());
        for (kind, document) in types.iter().zip(found) {
            let shown = match document {
                Some(document) => to_wire(&catalog::read::<EventType>(&document)?),
                None => {
                    let kind = self.imported(kind);
                    plan = plan.put(&Resource::EventType(kind.clone()), 0);
                    answer.created.push(kind.id.name());
                    to_wire(&Stored::new(kind))
                }
            };
            answer.event_types.push(shown);
        }
        if answer.created.is_empty() {
            return Ok(Some(answer));
        }
        self.commit(plan, answer, &How::plain(validate_only)).await
    }

    fn imported(&self, kind: &ContractType) -> EventType {
        let now = self.clock.now();
        EventType {
            id: kind.id.clone(),
            common: Common { create_time: now, update_time: now, ..Common::default() },
            description: kind.description.clone(),
            json_schema: kind.schema.clone(),
            example: kind.example.clone(),
            deprecated: false,
            sensitive_paths: Vec::new(),
        }
    }
}
