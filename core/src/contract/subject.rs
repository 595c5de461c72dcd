//! The first layer: what a request is about, what the values of a contract see of it, and what a
//! receiver answered. It knows nothing of contracts.

mod answer;
mod input;
mod view;

pub use answer::Answer;
pub use input::{ChallengeInput, CheckInput, RenderInput};
pub(super) use view::{Challenge, Subject, View, with_answer};
