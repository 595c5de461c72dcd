//! A contract's `callback`: what a question to a tenant's URL looks like, and how its answer is
//! read.

use std::sync::Arc;

use super::body::BodyTemplate;
use super::template::Template;
use super::text::{Place, TextTemplate};
use super::verdict::Verdict;
use crate::error::Wrong;
use crate::expr::Site;

/// A contract's `callback` as it is stated.
#[derive(Clone, Debug, PartialEq)]
pub struct CallbackSpec {
    /// What is asked.
    pub body: Template,
    /// Headers in order, beside `content-type`, `user-agent` and signatures; names in lower case.
    pub headers: Vec<(Arc<str>, TextTemplate)>,
    /// How a 2xx answer is read where the callback does not say.
    pub verdict: Verdict,
}

impl CallbackSpec {
    /// The data as it was given, and the default verdict.
    pub fn new() -> Result<Self, Wrong> {
        Ok(Self {
            body: Template::text("${check.data}", Site::CheckTemplate)?,
            headers: Vec::new(),
            verdict: Verdict::Default,
        })
    }
}

/// A contract's `callback`, compiled.
#[derive(Clone, Debug)]
pub struct CallbackRule {
    pub(in crate::contract) shape: Template,
    pub(in crate::contract) body: BodyTemplate,
    pub(in crate::contract) headers: Vec<(Arc<str>, TextTemplate)>,
    verdict: Verdict,
}

impl CallbackRule {
    pub(in crate::contract) fn compile(spec: CallbackSpec) -> Result<Self, Wrong> {
        for (_, template) in &spec.headers {
            template.check(Place::Header)?;
        }
        let body = BodyTemplate::compile(&spec.body)?;
        Ok(Self { shape: spec.body, body, headers: spec.headers, verdict: spec.verdict })
    }

    /// How a 2xx answer is read where the callback does not say.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }
}
