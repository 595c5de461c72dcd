//! Parsed literals as CEL values: patterns, time patterns and zones are made once, when an
//! expression is compiled, and handed to the functions that want them. No source gets hold of one.

use cel::common::types::{DYN_TYPE, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use std::any::Any;
use std::fmt::Debug;

static TYPE: Type = DYN_TYPE;

/// What a literal was parsed into.
#[derive(Clone, Debug)]
pub(super) struct Constant<T>(pub(super) T);

/// The parsed literal that an argument is, if it is one of this kind.
pub(super) fn constant<'a, T>(args: &'a [CowVal<'_, '_>], at: usize) -> Option<&'a T>
where
    T: Clone + Debug + Send + Sync + 'static,
{
    args.get(at)?.downcast_ref::<Constant<T>>().map(|constant| &constant.0)
}

impl<T: Clone + Debug + Send + Sync + 'static> Val for Constant<T> {
    fn get_type(&self) -> &Type {
        &TYPE
    }

    fn cel_type() -> &'static Type {
        &TYPE
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl<T: Clone + Debug + Send + Sync + 'static> StaticVal for Constant<T> {}
