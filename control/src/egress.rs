//! EgressService: from which addresses requests come, as their operators say.

use pregon_core::error::Refusal;
use pregon_core::id::PoolName;
use pregon_core::pool::Pool;
use pregon_proto::v1;
use pregon_proto::v1::egress_service_server::EgressService;

use crate::Control;
use crate::parse;
use crate::service::service;

service! {
    /// The service of egress pools.
    EgressPools: EgressService {
        list_egress_addresses(ListEgressAddressesRequest) -> ListEgressAddressesResponse;
    }
}

impl Control {
    pub(crate) async fn list_egress_addresses(
        &self,
        request: v1::ListEgressAddressesRequest,
    ) -> Result<v1::ListEgressAddressesResponse, Refusal> {
        let wanted = match request.pool.as_str() {
            "" => None,
            name => Some(parse::only("pool", PoolName::parse(name))?),
        };
        let pools = self.contracts.pools().all().iter();
        let pools = pools.filter(|pool| wanted.as_ref().is_none_or(|name| *name == pool.name));
        Ok(v1::ListEgressAddressesResponse { pools: pools.map(shown).collect() })
    }
}

fn shown(pool: &Pool) -> v1::EgressPool {
    let addresses = pool.addresses.iter().map(ToString::to_string).collect();
    v1::EgressPool { pool: pool.name.to_string(), addresses }
}
