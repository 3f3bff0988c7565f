//! x
use api::Operation;
use crate::Compute;
pub fn operations() -> Vec<Operation<Compute>> {
    Vec::new()
}
