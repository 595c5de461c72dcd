//! RotateSecret.
//!
//! The new secret is of the kind that the caller says, else of the kind that is there: where HMAC
//! secrets live, one of those, else the first of the other kinds of which some live, else what the
//! contract signs with. It takes the place of the live
//! ones of its kind; the others stay as they are. Where some signature of the contract has room for
//! one value only, there is no time in which both sign: the old ones end when the new one begins,
//! whatever overlap was asked for.

use std::time::Duration;

use pregon_core::clock::Timestamp;
use pregon_core::contract::Contract;
use pregon_core::limits;
use pregon_rpc::time;

use super::draft::{self, Draft};
use super::keys::{self, Keys};
use super::{
    Caller, Control, How, Plan, Refusal, Resource, Secret, SecretAlgorithm, SecretName, SignerName,
    Stored, Violations, parse, until_settled, v1,
};

/// A rotation on its way.
struct Rotation {
    secret: Secret,
    overlap: Duration,
    how: How,
}

impl Control {
    pub(crate) async fn rotate_secret(
        &self,
        request: v1::RotateSecretRequest,
        caller: &Caller,
    ) -> Result<v1::RotateSecretResponse, Refusal> {
        let mut wrong = Violations::new();
        let parent = wrong.check("parent", SignerName::parse(&request.parent));
        let options = (request.validate_only, request.request_id.as_str());
        let how = How::parse(caller, "RotateSecret", &request, options, &mut wrong);
        let overlap = match &request.overlap {
            None => Some(limits::ROTATE_OVERLAP_DEFAULT),
            Some(given) => {
                let range = Duration::ZERO..=limits::ROTATE_OVERLAP_MAX;
                wrong.check("overlap", time::parse_duration_within(given, range))
            }
        };
        let now = self.clock.now();
        let activate = parse::moment("activate_time", request.activate_time.as_ref(), &mut wrong);
        let contract = self.contract_meant(parent.as_ref()).await?;
        let keys = match &parent {
            Some(parent) => self.find_keys_of(parent).await?,
            None => None,
        };
        let algorithm = draft::algorithm("algorithm", request.algorithm, &contract, &mut wrong)
            .unwrap_or_else(|| rotated(keys.as_ref(), &contract, now));
        let form = &contract.secret().form;
        let key = draft::material("material", &request.material, algorithm, form, &mut wrong);
        let (parent, (overlap, key)) = parse::done(wrong, parent.zip(overlap.zip(key)))?;
        // No key signs in the past: a moment that has gone by is now.
        let activate = activate.map_or(now, |given| given.max(now));
        let draft = Draft { algorithm, key, activate, expire: None };
        let name = SecretName { signer: parent, secret: self.new_secret_id()? };
        let secret = self.new_secret(&name, &draft, &contract).await?;
        let _turn = self.turns.take(name.signer.tenant()).await;
        let rotation = Rotation { secret, overlap, how };
        let mut answer = until_settled(|| self.try_rotate_secret(&rotation)).await?;
        if let Some(shown) = &mut answer.secret
            && request.validate_only
        {
            shown.name.clear(); // the real one will get another id
        }
        Ok(answer)
    }

    /// Puts the new secret in the place of the live ones of its kind.
    async fn try_rotate_secret(
        &self,
        rotation: &Rotation,
    ) -> Result<Option<v1::RotateSecretResponse>, Refusal> {
        let Rotation { secret, overlap, how } = rotation;
        if let Some(answer) = self.recall(how).await? {
            return Ok(Some(answer));
        }
        let keys = self.keys_of(&secret.signer).await?;
        let leans = self.lean_on([keys.contract()]).await?;
        let contract = leans.get(keys.contract())?;
        self.check_key("material", contract, secret)?;
        let now = self.clock.now();
        let end = match contract.one_key() {
            true => secret.activate_time,
            false => secret.activate_time.plus(*overlap),
        };
        let mut plan = keys.trim(Plan::new().put(&Resource::Secret(secret.clone()), 0), now);
        let mut previous = Vec::new();
        let mut live = 0;
        for old in keys.live(now) {
            if old.value.algorithm != secret.algorithm {
                live += 1;
                continue;
            }
            let mut ending = old.value.clone();
            ending.expire_time = Some(ending.expire_time.map_or(end, |own| own.min(end)));
            ending.common.update_time = now;
            plan = plan.put(&Resource::Secret(ending.clone()), old.revision);
            live += usize::from(keys::is_live(&ending, now));
            previous.push(ending);
        }
        keys.room_for_one(live, &secret.signer)?;
        previous.sort_by_key(|it| std::cmp::Reverse((it.activate_time, it.common.create_time)));
        let shown = |secret: &Secret| self.shown_secret(&Stored::new(secret.clone()), now);
        let answer = v1::RotateSecretResponse {
            secret: Some(shown(secret)),
            previous: previous.iter().map(shown).collect(),
            ..Default::default()
        };
        let plan = leans.change(keys.change(plan), [(keys.contract(), 0)]);
        self.commit(plan, answer, how).await
    }
}

/// Which kind of secret is rotated.
fn rotated(keys: Option<&Keys>, contract: &Contract, now: Timestamp) -> SecretAlgorithm {
    let lives = |kind| {
        draft::signs_with(contract, kind)
            && keys.is_some_and(|keys| keys.live(now).any(|it| it.value.algorithm == kind))
    };
    let mut kinds = SecretAlgorithm::ALL.iter().copied();
    kinds.find(|kind| lives(*kind)).unwrap_or_else(|| draft::own_algorithm(contract))
}
