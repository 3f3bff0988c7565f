//! Who is asking: what a valid token says.

use std::sync::Arc;

use base::Time;

use crate::message::BoxFuture;

/// The bearer of a valid token. Scope fields are none where the token has no such scope.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    pub user_id: String,
    pub user_name: String,
    pub user_domain_id: String,
    pub user_domain_name: String,
    pub project_id: Option<String>,
    pub project_name: Option<String>,
    pub project_domain_id: Option<String>,
    pub project_domain_name: Option<String>,
    /// Set for tokens scoped to a domain.
    pub domain_id: Option<String>,
    pub domain_name: Option<String>,
    /// Set for tokens scoped to the system.
    pub system: bool,
    /// Names, with implied roles.
    pub roles: Vec<String>,
    pub role_ids: Vec<String>,
    /// Roles of the service that passes a user's request on (`X-Service-Token`).
    pub service_roles: Vec<String>,
    pub methods: Vec<String>,
    pub audit_ids: Vec<String>,
    pub trust_id: Option<String>,
    pub trustor_user_id: Option<String>,
    pub trustee_user_id: Option<String>,
    pub application_credential_id: Option<String>,
    /// The only calls that the token is good for; none where roles alone decide.
    pub access_rules: Option<Vec<AccessRule>>,
    /// Whether this token may make further credentials; false for restricted application credentials.
    pub unrestricted: bool,
    pub expires: Time,
    pub issued: Time,
    /// The token itself, to pass the user's rights on to another service within the request. Never stored, never logged.
    pub token: Secret,
}

impl Caller {
    /// The project of the token's scope; empty for other scopes, which no row has.
    pub fn project(&self) -> &str {
        self.project_id.as_deref().unwrap_or_default()
    }

    pub fn has_role(&self, name: &str) -> bool {
        self.roles.iter().any(|role| role.eq_ignore_ascii_case(name))
    }
}

/// A call that an application credential is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRule {
    /// The type of a service in the catalog: `compute`.
    pub service: String,
    pub method: String,
    /// Segments may be `*`, or a name in braces, for anything; `**` is any number of them.
    pub path: String,
}

impl AccessRule {
    pub fn fits(&self, service: &str, method: &str, path: &str) -> bool {
        let wanted: Vec<&str> = self.path.trim_matches('/').split('/').collect();
        let asked: Vec<&str> = path.trim_matches('/').split('/').collect();
        self.service == service && self.method.eq_ignore_ascii_case(method) && matches(&wanted, &asked)
    }
}

/// Limit: two stars in one path. More of them could make one comparison take long.
const DEEP: usize = 2;

fn matches(wanted: &[&str], asked: &[&str]) -> bool {
    let deep = wanted.iter().filter(|segment| **segment == "**").count();
    deep <= DEEP && segments(wanted, asked)
}

fn segments(wanted: &[&str], asked: &[&str]) -> bool {
    match (wanted.split_first(), asked.split_first()) {
        (None, None) => true,
        (Some((&"**", rest)), _) => (0..=asked.len()).any(|skip| segments(rest, &asked[skip..])),
        (Some((first, rest)), Some((segment, others))) => {
            let any = *first == "*" || (first.starts_with('{') && first.ends_with('}'));
            (any || first == segment) && segments(rest, others)
        }
        _ => false,
    }
}

/// Text that must not reach a log.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<secret>")
    }
}

/// Why a token was not accepted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuthError {
    /// Malformed, expired, revoked, or of somebody unknown; the client is not told which.
    #[error("the token is not valid")]
    Invalid,
    #[error("identity cannot be asked: {0}")]
    Unreachable(String),
}

/// The door to identity: turns a token into its bearer. Implemented by identity itself in the same process and by the
/// client of identity's public API elsewhere.
pub trait Authenticator: Send + Sync + 'static {
    fn authenticate<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Arc<Caller>, AuthError>>;

    /// Where clients find identity (`http://controller:5000/v3`), for the challenge in a 401.
    fn public_url(&self) -> Option<String> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_rule_allows_what_its_path_describes() {
        let rule = |path: &str| AccessRule { service: "compute".into(), method: "GET".into(), path: path.into() };
        let fits = |pattern: &str, path: &str| rule(pattern).fits("compute", "GET", path);
        assert!(fits("/v2.1/servers", "/v2.1/servers"));
        assert!(!fits("/v2.1/servers", "/v2x1/servers"));
        assert!(fits("/v2.1/servers/*", "/v2.1/servers/a") && !fits("/v2.1/servers/*", "/v2.1/servers/a/b"));
        assert!(fits("/v2.1/{project_id}/servers", "/v2.1/p/servers"));
        assert!(fits("/v2.1/**", "/v2.1/servers/a/b") && !fits("/v2.1/**", "/v3/servers"));
        assert!(!rule("/**").fits("image", "GET", "/x") && !rule("/**").fits("compute", "POST", "/x"));
    }
}
