//! Permission as a type: an answer holds [`Permitted`] things, and only a call can permit one.

use std::borrow::Cow;
use std::ops::{Deref, DerefMut};

use crate::caller::Caller;
use crate::policy::Target;

/// Something that the operation's rule allows the caller to see or to have done.
#[derive(Debug)]
pub struct Permitted<T>(T);

impl<T> Permitted<T> {
    pub(crate) fn new(value: T) -> Permitted<T> {
        Permitted(value)
    }

    pub fn into_inner(self) -> T {
        self.0
    }

    /// Carries the permission over to what is made of the permitted thing.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Permitted<U> {
        Permitted(make(self.0))
    }
}

impl Permitted<()> {
    /// Carries the permission for a list over to its rows, whose query held only what the caller may see.
    pub fn each<T>(self, rows: Vec<T>) -> Vec<Permitted<T>> {
        rows.into_iter().map(Permitted).collect()
    }
}

impl<T> Deref for Permitted<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Permitted<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// What a rule sees when there is no row yet: an object of the caller's own.
pub struct Own<'a>(pub &'a Caller);

impl Target for Own<'_> {
    fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        match name {
            "user_id" => Some(Cow::Borrowed(&self.0.user_id)),
            "project_id" | "tenant_id" => self.0.project_id.as_deref().map(Cow::Borrowed),
            "domain_id" => self.0.domain_id.as_deref().map(Cow::Borrowed),
            _ => None,
        }
    }
}

/// An object of a project, for rows that have nothing else a rule could ask for.
pub struct OfProject<'a>(pub &'a str);

impl Target for OfProject<'_> {
    fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        matches!(name, "project_id" | "tenant_id").then_some(Cow::Borrowed(self.0))
    }
}
