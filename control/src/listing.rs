//! Pages: of configuration by name, and what all lists have in common.

use pregon_core::error::{Refusal, Violations};
use pregon_rpc::page;

use crate::Control;
use crate::catalog::{Kind, Stored};
use crate::repeat::{self, Canonical};

/// Documents that one page looks at, at most: filters are applied while scanning.
const SCAN: usize = 2000;
/// Documents that one call to the store lists.
const CHUNK: usize = 500;
/// Bytes of items in one page: clients take 4 MiB, but a page is in memory several times while it
/// is made, and some callers' pages are made at the same time. An item is no larger on the wire than
/// in the store, but for what the page itself adds; one that is larger than this is a page alone.
pub(crate) const PAGE_BYTES: usize = 1024 * 1024;

/// Which page of a list is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Paging {
    /// Items at most.
    pub size: usize,
    /// The place that an earlier page gave; none: the first page.
    pub from: Option<String>,
    scope: [u8; 32],
}

/// A request for a page of a list.
pub(crate) trait PageRequest: Canonical {
    /// Its method.
    const METHOD: &'static str;

    /// Takes `page_size` and `page_token` out.
    fn take_page(&mut self) -> (i32, String);
}

macro_rules! page_requests {
    ($($request:ident: $method:literal;)*) => {$(
        impl PageRequest for pregon_proto::v1::$request {
            const METHOD: &'static str = $method;

            fn take_page(&mut self) -> (i32, String) {
                (std::mem::take(&mut self.page_size), std::mem::take(&mut self.page_token))
            }
        }
    )*};
}

page_requests! {
    ListTenantsRequest: "ListTenants";
    ListEventTypesRequest: "ListEventTypes";
    ListSubscriptionsRequest: "ListSubscriptions";
    ListSecretsRequest: "ListSecrets";
    ListCallbacksRequest: "ListCallbacks";
    ListContractsRequest: "ListContracts";
    ListEventsRequest: "ListEvents";
    ListDeliveriesRequest: "ListDeliveries";
    ListAttemptsRequest: "ListAttempts";
    ListNodesRequest: "ListNodes";
    ResealDocumentsRequest: "ResealDocuments";
    ListApiKeysRequest: "ListApiKeys";
    ListAuditEntriesRequest: "ListAuditEntries";
}

impl Control {
    /// Which page a request wants; notes what is wrong with its size and token.
    pub(crate) fn paging<R: PageRequest>(&self, request: &mut R, wrong: &mut Violations) -> Paging {
        let (size, token) = request.take_page();
        // What is left is what the token is bound to.
        let scope = page::scope(R::METHOD, [repeat::content(request).as_slice()]);
        let size = wrong.check("page_size", page::page_size(size)).unwrap_or(1);
        let opened = self.page_key.open(&scope, &token, self.clock.now());
        Paging { size, from: wrong.check("page_token", opened).flatten(), scope }
    }

    /// The token of the page that goes on at a place; empty where there is none.
    pub(crate) fn next_page(&self, paging: &Paging, place: Option<&str>) -> String {
        place.map_or_else(String::new, |place| {
            self.page_key.seal(&paging.scope, place, self.clock.now())
        })
    }

    /// A page of resources by name, those that `keep` wants, and the token of the next.
    pub(crate) async fn page<T: Kind>(
        &self,
        prefix: &str,
        paging: &Paging,
        name: impl Fn(&T) -> String,
        keep: impl Fn(&T) -> bool,
    ) -> Result<(Vec<Stored<T>>, String), Refusal> {
        let mut after = paging.from.clone().unwrap_or_default();
        let (mut items, mut bytes, mut seen) = (Vec::new(), 0, 0);
        let limit = CHUNK.min(paging.size + 1);
        loop {
            let chunk = self.list::<T>(prefix, &after, limit).await?;
            let last = chunk.len() < limit;
            for item in chunk {
                let full = items.len() == paging.size
                    || (bytes + item.size > PAGE_BYTES && !items.is_empty());
                if full || seen == SCAN {
                    return Ok((items, self.next_page(paging, Some(&after))));
                }
                seen += 1;
                after = name(&item.value);
                if keep(&item.value) {
                    bytes += item.size;
                    items.push(item);
                }
            }
            if last {
                return Ok((items, String::new()));
            }
        }
    }
}
