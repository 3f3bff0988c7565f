//! What a client sends to get a token.

use api::{Answer, Json, Query, Refusal};

use crate::expecting;

/// Something named by its id, or by its name within a domain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Named {
    pub id: Option<String>,
    pub name: Option<String>,
    pub domain: Option<Box<Named>>,
}

/// The scope that a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Nothing was said: the user's default project, if there is one.
    Default,
    Unscoped,
    Project(Named),
    Domain(Named),
    System,
    Trust(String),
}

/// One proof of who the client is.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Proof {
    Password { user: Named, password: String },
    Token { id: String },
    ApplicationCredential { credential: Named, user: Option<Named>, secret: String },
}

pub(super) struct AuthRequest {
    pub proofs: Vec<Proof>,
    pub wanted: Wanted,
    pub with_catalog: bool,
}

impl AuthRequest {
    pub fn read(body: &Json, query: &Query) -> Answer<AuthRequest> {
        let auth = body.get("auth").filter(|auth| !auth.is_null()).ok_or_else(|| expecting("auth", "request body"))?;
        let identity = auth.get("identity").ok_or_else(|| wrong("auth", "'identity' is a required property"))?;
        let methods = identity.get("methods").ok_or_else(|| wrong("identity", "'methods' is a required property"))?;
        let methods = methods.as_array().ok_or_else(|| wrong("identity/methods", "it is not of type 'array'"))?;
        let mut proofs = Vec::new();
        for method in methods {
            let method =
                method.as_str().ok_or_else(|| wrong("identity/methods", "a method is not of type 'string'"))?;
            let data = identity.get(method).ok_or_else(|| expecting(method, "identity"))?;
            let proof = Proof::read(method, data)?;
            if !proofs.contains(&proof) {
                proofs.push(proof);
            }
        }
        if proofs.is_empty() {
            return Err(Refusal::unauthorized());
        }
        let wanted = Wanted::read(auth.get("scope"))?;
        let by_credential = proofs.iter().any(|proof| matches!(proof, Proof::ApplicationCredential { .. }));
        if by_credential && wanted != Wanted::Default {
            return Err(Refusal::new(
                401,
                "",
                "Error authenticating with application credential: Application credentials cannot request a scope.",
            ));
        }
        Ok(AuthRequest { proofs, wanted, with_catalog: !query.has("nocatalog") })
    }
}

impl Proof {
    fn read(method: &str, data: &Json) -> Answer<Proof> {
        match method {
            "password" => {
                let user = data.get("user").ok_or_else(|| expecting("user", "password"))?;
                let named = Named::user(user)?;
                let password = text(user, "password", "identity/password/user")?.unwrap_or_default();
                Ok(Proof::Password { user: named, password })
            }
            "token" => {
                let id = text(data, "id", "identity/token")?.ok_or_else(|| expecting("id", "token"))?;
                Ok(Proof::Token { id })
            }
            "application_credential" => {
                const WHERE: &str = "identity/application_credential";
                let credential = Named { id: text(data, "id", WHERE)?, name: text(data, "name", WHERE)?, domain: None };
                if credential.id.is_none() && credential.name.is_none() {
                    return Err(expecting("id or name", "application credential"));
                }
                let user = data.get("user").map(Named::user).transpose()?;
                if credential.id.is_none() && user.is_none() {
                    return Err(expecting("user", "application credential"));
                }
                let secret = text(data, "secret", WHERE)?.unwrap_or_default();
                Ok(Proof::ApplicationCredential { credential, user, secret })
            }
            // Upstream: the method is not named in the answer.
            _ => Err(Refusal::new(401, "", "Attempted to authenticate with an unsupported method.")),
        }
    }
}

impl Named {
    fn read(value: &Json, place: &str) -> Answer<Named> {
        let named = Named {
            id: text(value, "id", place)?,
            name: text(value, "name", place)?,
            domain: match value.get("domain") {
                None => None,
                Some(domain) => Some(Box::new(Named::read(domain, &format!("{place}/domain"))?)),
            },
        };
        match (&named.id, &named.name) {
            (None, None) => Err(wrong(place, "id or name must be present.")),
            _ => Ok(named),
        }
    }

    fn user(value: &Json) -> Answer<Named> {
        let named = Named::read(value, "identity/password/user")?;
        match (&named.name, &named.domain) {
            (Some(_), None) if named.id.is_none() => Err(expecting("domain", "user")),
            _ => Ok(named),
        }
    }
}

impl Wanted {
    fn read(scope: Option<&Json>) -> Answer<Wanted> {
        let scope = match scope {
            None | Some(Json::Null) => return Ok(Wanted::Default),
            Some(Json::String(word)) if word == "unscoped" => return Ok(Wanted::Unscoped),
            Some(scope) => scope,
        };
        let known = ["project", "domain", "unscoped", "system", "OS-TRUST:trust"];
        let given: Vec<&str> = known.into_iter().filter(|key| scope.get(key).is_some()).collect();
        let [only] = given.as_slice() else {
            return Err(expecting("system, project, domain, OS-TRUST:trust or unscoped", "scope"));
        };
        let value = &scope[*only];
        match *only {
            "project" => {
                let named = Named::read(value, "scope/project")?;
                match named.name.is_some() && named.id.is_none() && named.domain.is_none() {
                    true => Err(expecting("domain", "project")),
                    false => Ok(Wanted::Project(named)),
                }
            }
            "domain" => Ok(Wanted::Domain(Named::read(value, "scope/domain")?)),
            "system" => Ok(Wanted::System),
            "OS-TRUST:trust" => {
                let id = text(value, "id", "scope/OS-TRUST:trust")?.ok_or_else(|| expecting("trust_id", "trust"))?;
                Ok(Wanted::Trust(id))
            }
            _ => Ok(Wanted::Unscoped),
        }
    }
}

/// A text under `key`; null counts as missing.
fn text(value: &Json, key: &str, place: &str) -> Answer<Option<String>> {
    match value.get(key) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(wrong(&format!("{place}/{key}"), "it is not of type 'string'")),
    }
}

fn wrong(place: &str, why: &str) -> Refusal {
    Refusal::bad_request(format!("Invalid input for field {place}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::json;

    fn read(auth: Json) -> Result<AuthRequest, String> {
        AuthRequest::read(&json!({"auth": auth}), &Query::default()).map_err(|refusal| refusal.message)
    }

    #[test]
    fn scopes_are_told_apart() {
        let with = |scope: Json| {
            let token = json!({"methods": ["token"], "token": {"id": "t"}});
            read(json!({"identity": token, "scope": scope})).map(|request| request.wanted)
        };
        assert_eq!(with(Json::Null), Ok(Wanted::Default));
        assert_eq!(with(json!("unscoped")), Ok(Wanted::Unscoped));
        assert_eq!(with(json!({"unscoped": {}})), Ok(Wanted::Unscoped));
        assert_eq!(with(json!({"system": {"all": true}})), Ok(Wanted::System));
        assert_eq!(with(json!({"OS-TRUST:trust": {"id": "x"}})), Ok(Wanted::Trust("x".into())));
        let id = Named { id: Some("p".into()), ..Named::default() };
        assert_eq!(with(json!({"project": {"id": "p"}})), Ok(Wanted::Project(id)));
        assert!(
            with(json!({"project": {"name": "p"}})).unwrap_err().starts_with("Expecting to find domain in project.")
        );
        assert!(
            with(json!({"project": {"id": "p"}, "system": {}})).unwrap_err().starts_with("Expecting to find system")
        );
        assert!(with(json!({})).is_err());
        assert!(with(json!({"project": {"id": 7}})).is_err());
    }

    #[test]
    fn incomplete_proofs_are_refused() {
        let with = |identity: Json| read(json!({"identity": identity})).err().unwrap();
        assert!(with(json!({"methods": ["password"]})).starts_with("Expecting to find password in identity."));
        assert!(with(json!({"methods": ["password"], "password": {}})).starts_with("Expecting to find user"));
        let nameless = json!({"methods": ["password"], "password": {"user": {"password": "x"}}});
        assert_eq!(with(nameless), "Invalid input for field identity/password/user: id or name must be present.");
        assert!(with(json!({"methods": ["magic"], "magic": {}})).contains("unsupported method"));
        assert!(with(json!({"methods": []})).contains("requires authentication"));
        assert!(with(json!({"methods": "password"})).contains("array"));
    }
}
