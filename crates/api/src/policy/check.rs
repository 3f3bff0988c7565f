//! One rule as a tree, and what makes it true.

use std::borrow::Cow;

use regex_lite::Regex;

use super::RuleId;
use crate::caller::Caller;

/// A value that is there, but null. Rules see nulls and booleans spelled as in Python: `None`, `True`, `False`.
pub const NULL: Cow<'static, str> = Cow::Borrowed("None");

/// The object that a rule asks about.
pub trait Target {
    /// The attribute that rules call `name` (`project_id`, `target.user.domain_id`). `None` makes the check that asks
    /// for it false; a null is [`NULL`].
    fn attribute(&self, name: &str) -> Option<Cow<'_, str>>;
}

/// No object: every check that looks at one is false.
impl Target for () {
    fn attribute(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }
}

impl Target for [(&str, &str)] {
    fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        self.iter().find(|(key, _)| *key == name).map(|(_, value)| Cow::Borrowed(*value))
    }
}

impl<const N: usize> Target for [(&str, &str); N] {
    fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        self.as_slice().attribute(name)
    }
}

/// A JSON object answers with its own keys, then with a dotted path into it.
impl Target for base::Json {
    fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        let found = self.get(name).or_else(|| name.split('.').try_fold(self, |at, key| at.get(key)))?;
        Some(match found {
            base::Json::Null => NULL,
            base::Json::Bool(true) => "True".into(),
            base::Json::Bool(false) => "False".into(),
            base::Json::String(text) => Cow::Borrowed(text),
            other => other.to_string().into(),
        })
    }
}

/// A parsed rule.
#[derive(Debug, Clone)]
pub(super) enum Check {
    True,
    False,
    Not(Box<Check>),
    And(Vec<Check>),
    Or(Vec<Check>),
    /// `rule:name` before names are resolved.
    Named(String),
    Rule(RuleId),
    Role(Match),
    /// `'public':%(visibility)s`: a constant against the object.
    Literal(String, Match),
    /// `project_id:%(project_id)s`: something of the caller's against the object.
    Credential(Credential, Match),
    /// `field:networks:shared=True`, network's own kind of check.
    Field(String, Wanted),
}

/// The right-hand side of a check.
#[derive(Debug, Clone)]
pub(super) enum Match {
    Text(String),
    /// Just one attribute of the object, by far the most common form.
    Attribute(String),
    Pieces(Vec<Piece>),
}

#[derive(Debug, Clone)]
pub(super) enum Piece {
    Text(String),
    Attribute(String),
}

/// What a field check compares with.
#[derive(Debug, Clone)]
pub(super) enum Wanted {
    Text(String),
    Pattern(Regex),
}

impl Match {
    /// `None` when the object lacks an attribute.
    fn fill<'a>(&'a self, target: &'a dyn Target) -> Option<Cow<'a, str>> {
        match self {
            Match::Text(text) => Some(Cow::Borrowed(text)),
            Match::Attribute(name) => target.attribute(name),
            Match::Pieces(pieces) => {
                let mut whole = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => whole.push_str(text),
                        Piece::Attribute(name) => whole.push_str(&target.attribute(name)?),
                    }
                }
                Some(whole.into())
            }
        }
    }
}

/// What rules may ask about a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Credential {
    User,
    UserDomain,
    Project,
    ProjectDomain,
    Domain,
    SystemScope,
    IsAdmin,
    IsAdminProject,
    Roles,
    ServiceRoles,
    Trust,
    Trustor,
    Trustee,
    TokenProject,
    TokenProjectDomain,
    TokenDomain,
    /// Nothing that a caller has: always false.
    Unknown,
}

impl Credential {
    /// Names of oslo.context, keystone's dotted paths into the token, and the older spellings.
    pub(super) fn named(name: &str) -> Credential {
        match name {
            "user_id" | "user" | "token.user.id" => Credential::User,
            "user_domain_id" | "user_domain" | "token.user.domain.id" => Credential::UserDomain,
            "project_id" | "tenant_id" | "tenant" => Credential::Project,
            "project_domain_id" | "project_domain" => Credential::ProjectDomain,
            "domain_id" | "domain" => Credential::Domain,
            "system_scope" | "system" => Credential::SystemScope,
            "is_admin" => Credential::IsAdmin,
            "is_admin_project" => Credential::IsAdminProject,
            "roles" | "token.roles.name" => Credential::Roles,
            "service_roles" => Credential::ServiceRoles,
            "trust_id" | "token.OS-TRUST:trust.id" => Credential::Trust,
            "trustor_id" | "token.OS-TRUST:trust.trustor_user.id" => Credential::Trustor,
            "trustee_id" | "token.OS-TRUST:trust.trustee_user.id" => Credential::Trustee,
            "token.project.id" => Credential::TokenProject,
            "token.project.domain.id" => Credential::TokenProjectDomain,
            "token.domain.id" => Credential::TokenDomain,
            _ => Credential::Unknown,
        }
    }

    /// Whether the caller's value is `wanted`. A null of the caller's equals the word `None` only where the rule
    /// itself says it (`constant`).
    ///
    /// Upstream: there it also equals a null of the object's, so that an unscoped token owns every object without an
    /// owner; we refuse that, no default rule needs it.
    fn is(self, caller: &Caller, wanted: &str, constant: bool) -> bool {
        let text = |value: &Option<String>| match value {
            Some(value) => value == wanted,
            None => constant && wanted == NULL,
        };
        let known = |value: &Option<String>| value.as_deref() == Some(wanted);
        match self {
            Credential::User => caller.user_id == wanted,
            Credential::UserDomain => caller.user_domain_id == wanted,
            Credential::Project => text(&caller.project_id),
            Credential::ProjectDomain => text(&caller.project_domain_id),
            Credential::Domain => text(&caller.domain_id),
            Credential::SystemScope if caller.system => wanted == "all",
            Credential::SystemScope => constant && wanted == NULL,
            Credential::IsAdmin => wanted == if caller.has_role("admin") { "True" } else { "False" },
            Credential::IsAdminProject => wanted == "True",
            Credential::Roles => caller.roles.iter().any(|role| role == wanted),
            Credential::ServiceRoles => caller.service_roles.iter().any(|role| role == wanted),
            Credential::Trust => known(&caller.trust_id),
            Credential::Trustor => known(&caller.trustor_user_id),
            Credential::Trustee => known(&caller.trustee_user_id),
            Credential::TokenProject => known(&caller.project_id),
            Credential::TokenProjectDomain => known(&caller.project_domain_id),
            Credential::TokenDomain => known(&caller.domain_id),
            Credential::Unknown => false,
        }
    }
}

impl Check {
    /// Whether `caller` passes. `rules` answers references; they were proven to have no cycle.
    pub(super) fn passes(&self, rules: &dyn Fn(RuleId) -> bool, caller: &Caller, target: &dyn Target) -> bool {
        match self {
            Check::True => true,
            Check::False | Check::Named(_) => false,
            Check::Not(check) => !check.passes(rules, caller, target),
            Check::And(checks) => checks.iter().all(|check| check.passes(rules, caller, target)),
            Check::Or(checks) => checks.iter().any(|check| check.passes(rules, caller, target)),
            Check::Rule(rule) => rules(*rule),
            Check::Role(role) => role.fill(target).is_some_and(|role| caller.has_role(&role)),
            Check::Literal(text, wanted) => wanted.fill(target).is_some_and(|wanted| *text == wanted),
            Check::Credential(credential, wanted) => {
                let constant = matches!(wanted, Match::Text(_));
                wanted.fill(target).is_some_and(|wanted| credential.is(caller, &wanted, constant))
            }
            Check::Field(name, wanted) => target.attribute(name).is_some_and(|value| match wanted {
                Wanted::Text(text) => *text == value,
                Wanted::Pattern(pattern) => pattern.is_match(&value),
            }),
        }
    }

    /// Calls `visit` for every reference to another rule.
    pub(super) fn references(&mut self, visit: &mut dyn FnMut(&mut Check)) {
        match self {
            Check::Not(check) => check.references(visit),
            Check::And(checks) | Check::Or(checks) => checks.iter_mut().for_each(|check| check.references(visit)),
            Check::Named(_) | Check::Rule(_) => visit(self),
            _ => {}
        }
    }
}
