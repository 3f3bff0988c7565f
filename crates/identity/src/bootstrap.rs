//! The first rows of a cloud: `keystone-manage bootstrap`. Running it again changes nothing but the password.

use api::{Answer, Refusal};
use base::{Json, clock, json};
use db::{Queries, Tx, select};

use crate::assignments::{Assignment, SYSTEM};
use crate::endpoints::Endpoint;
use crate::projects::{Project, store as projects};
use crate::roles::Role;
use crate::roles::store::Implication;
use crate::services::Service;
use crate::users::{User, password, store as users};
use crate::{Identity, regions};

/// Roles that every cloud has. Each implies the next one; `service` stands alone.
const LADDER: &[&str] = &["admin", "manager", "member", "reader"];
const SERVICE_ROLE: &str = "service";

/// What to make, under the names of `keystone-manage bootstrap`'s arguments.
#[derive(Clone)]
pub struct Bootstrap {
    pub username: String,
    pub password: String,
    pub project_name: String,
    pub role_name: String,
    pub service_name: String,
    pub region: Option<String>,
    pub public_url: Option<String>,
    pub internal_url: Option<String>,
    pub admin_url: Option<String>,
    /// Whether the ladder of roles may be changed and deleted.
    pub mutable_roles: bool,
}

/// Upstream's defaults, without a password.
impl Default for Bootstrap {
    fn default() -> Bootstrap {
        Bootstrap {
            username: "admin".into(),
            password: String::new(),
            project_name: "admin".into(),
            role_name: "admin".into(),
            service_name: "keystone".into(),
            region: None,
            public_url: None,
            internal_url: None,
            admin_url: None,
            mutable_roles: false,
        }
    }
}

/// The ids of what was made or found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrapped {
    pub user_id: String,
    pub project_id: String,
    pub role_id: String,
    pub service_id: Option<String>,
}

/// Makes what is missing and mends what is different; see [`crate::manage::bootstrap`].
pub(crate) async fn run(identity: &Identity, wanted: &Bootstrap) -> Answer<Bootstrapped> {
    // Hashing takes long; it must not happen inside the transaction.
    let fresh = fresh_user(identity, wanted).await?;
    let mut tx = identity.db.begin().await?;
    let domain = domain(&mut tx, &identity.settings.default_domain_id).await?;
    let project =
        project(&mut tx, &domain, &wanted.project_name, "Bootstrap project for initializing the cloud.").await?;
    let user_id = user(identity, &mut tx, fresh, &wanted.password).await?;
    let role_id = roles(&mut tx, wanted).await?;
    for (target_kind, target_id) in [("project", project.id.as_str()), (SYSTEM, SYSTEM)] {
        grant(&mut tx, &user_id, target_kind, target_id, &role_id).await?;
    }
    let service_id = catalog(&mut tx, wanted).await?;
    identity.settle(tx).await?;
    Ok(Bootstrapped { user_id, project_id: project.id, role_id, service_id })
}

async fn fresh_user(identity: &Identity, wanted: &Bootstrap) -> Answer<User> {
    let mut user = User {
        id: base::id::hex(),
        domain_id: identity.settings.default_domain_id.clone(),
        name: wanted.username.clone(),
        enabled: true,
        default_project_id: None,
        password_hash: None,
        password_created_at: None,
        password_expires_at: None,
        password_self_service: false,
        failed_auth_count: 0,
        failed_auth_at: None,
        last_active_at: None,
        created_at: clock::now(),
        extra: json!({}),
        options: json!({}),
    };
    password::choose(identity, &mut user, &wanted.password).await?;
    Ok(user)
}

async fn domain(tx: &mut Tx, id: &str) -> Answer<Project> {
    if let Some(found) = projects::find_domain(&mut *tx, id).await? {
        return Ok(found);
    }
    let domain = Project {
        id: id.to_string(),
        name: "Default".into(),
        domain_id: String::new(),
        parent_id: None,
        is_domain: true,
        enabled: true,
        description: Some("The default domain".into()),
        extra: json!({}),
        options: json!({}),
    };
    tx.insert(&domain).await?;
    Ok(domain)
}

/// The project with this name, made when it is not there.
pub async fn project(mut tx: impl Queries, domain: &Project, name: &str, description: &str) -> Answer<Project> {
    if let Some(found) = projects::by_name(&mut tx, &domain.id, name).await? {
        return Ok(found);
    }
    let project = Project {
        id: base::id::hex(),
        name: name.into(),
        domain_id: domain.id.clone(),
        parent_id: Some(domain.id.clone()),
        is_domain: false,
        enabled: true,
        description: Some(description.into()),
        extra: json!({}),
        options: json!({}),
    };
    tx.insert(&project).await?;
    Ok(project)
}

/// Makes the user, or enables it and gives it the password when it has another one. Upstream: only then are its tokens
/// made void.
async fn user(identity: &Identity, tx: &mut Tx, fresh: User, secret: &str) -> Answer<String> {
    let Some(found) = users::by_name(&mut *tx, &fresh.domain_id, &fresh.name).await? else {
        tx.insert(&fresh).await?;
        users::remember(&mut *tx, &fresh).await?;
        return Ok(fresh.id);
    };
    let stored = found.password_hash.as_deref();
    let same = identity.passwords.verify(secret, stored).await.map_err(password::unusable)?;
    if same && found.enabled {
        return Ok(found.id);
    }
    let changed = User {
        id: found.id.clone(),
        enabled: true,
        extra: found.extra.clone(),
        options: found.options.clone(),
        default_project_id: found.default_project_id.clone(),
        ..fresh
    };
    users::update(&mut *tx, &changed).await?;
    if !same {
        users::set_password(&mut *tx, &changed, identity.settings.compliance.unique_last_password_count).await?;
        crate::revocations::of_user(&mut *tx, &changed.id).await?;
    }
    Ok(changed.id)
}

/// The global role with this name, made when it is not there.
pub async fn role(mut tx: impl Queries, name: &str, options: Json) -> Answer<Role> {
    if let Some(found) = tx.maybe(select::<Role>("WHERE domain_id = '' AND name = ?").bind(name)).await? {
        return Ok(found);
    }
    let role = Role {
        id: base::id::hex(),
        name: name.into(),
        domain_id: String::new(),
        description: None,
        extra: json!({}),
        options,
    };
    tx.insert(&role).await?;
    Ok(role)
}

async fn roles(tx: &mut Tx, wanted: &Bootstrap) -> Answer<String> {
    let options = || if wanted.mutable_roles { json!({}) } else { json!({"immutable": true}) };
    let mut prior: Option<Role> = None;
    for name in LADDER {
        let role = role(&mut *tx, name, options()).await?;
        if let Some(prior) = prior {
            let step = Implication { prior_role_id: prior.id, implied_role_id: role.id.clone() };
            tx.insert_new(&step).await?;
        }
        prior = Some(role);
    }
    role(&mut *tx, SERVICE_ROLE, options()).await?;
    Ok(role(&mut *tx, &wanted.role_name, options()).await?.id)
}

/// Gives a user a role, if the user does not have it yet.
pub async fn grant(
    mut tx: impl Queries,
    user_id: &str,
    target_kind: &str,
    target_id: &str,
    role_id: &str,
) -> Result<(), db::Error> {
    let assignment = Assignment {
        actor_kind: "user".into(),
        actor_id: user_id.into(),
        target_kind: target_kind.into(),
        target_id: target_id.into(),
        role_id: role_id.into(),
        inherited: false,
    };
    tx.insert_new(&assignment).await?;
    Ok(())
}

/// The identity service and its endpoints, where URLs are given.
async fn catalog(tx: &mut Tx, wanted: &Bootstrap) -> Answer<Option<String>> {
    if let Some(region) = &wanted.region {
        regions::ensure(&mut *tx, region).await?;
    }
    let urls = [("public", &wanted.public_url), ("internal", &wanted.internal_url), ("admin", &wanted.admin_url)];
    if urls.iter().all(|(_, url)| url.is_none()) {
        return Ok(None);
    }
    let service = service(&mut *tx, "identity", &wanted.service_name).await?;
    for (interface, url) in urls {
        if let Some(url) = url {
            endpoint(&mut *tx, &service, interface, wanted.region.as_deref(), url).await?;
        }
    }
    Ok(Some(service.id))
}

/// The service of this type, made when it is not there.
pub async fn service(mut tx: impl Queries, kind: &str, name: &str) -> Answer<Service> {
    if let Some(found) = tx.maybe(select::<Service>("WHERE \"type\" = ? ORDER BY id").bind(kind)).await? {
        return Ok(found);
    }
    let service =
        Service { id: base::id::hex(), r#type: kind.into(), name: Some(name.into()), enabled: true, extra: json!({}) };
    tx.insert(&service).await?;
    Ok(service)
}

/// The endpoint of a service with this interface and region: made, or brought to this URL.
pub async fn endpoint(
    mut tx: impl Queries,
    service: &Service,
    interface: &str,
    region_id: Option<&str>,
    url: &str,
) -> Answer<()> {
    let found =
        tx.all(select::<Endpoint>("WHERE service_id = ? AND interface = ?").bind(&service.id).bind(interface)).await?;
    match found.into_iter().find(|one| one.region_id.as_deref() == region_id) {
        Some(one) if one.url == url => {}
        Some(one) => {
            let change = db::sql("UPDATE endpoints SET url = ? WHERE id = ?").bind(url).bind(one.id);
            tx.run(change).await?;
        }
        None => {
            let endpoint = Endpoint {
                id: base::id::hex(),
                service_id: service.id.clone(),
                region_id: region_id.map(String::from),
                interface: interface.into(),
                url: url.into(),
                enabled: true,
                extra: json!({}),
            };
            tx.insert(&endpoint).await?;
        }
    }
    Ok(())
}

/// What a service of the cloud needs: a user in the project `service` with the roles `service` and `admin`, and its
/// place in the catalog. Running it again changes nothing but the password.
pub struct ServiceAccount<'a> {
    pub user: &'a str,
    pub password: &'a str,
    pub kind: &'a str,
    pub name: &'a str,
    pub region_id: &'a str,
    /// Public, internal and admin.
    pub urls: [&'a str; 3],
}

/// Makes a service known to the cloud.
pub async fn service_account(identity: &Identity, account: &ServiceAccount<'_>) -> Answer<String> {
    let (username, password) = (account.user.to_string(), account.password.to_string());
    let wanted = Bootstrap { username, password, ..Bootstrap::default() };
    let fresh = fresh_user(identity, &wanted).await?;
    let mut tx = identity.db.begin().await?;
    let domain = projects::find_domain(&mut tx, &identity.settings.default_domain_id).await?;
    let domain = domain.ok_or_else(|| Refusal::conflict("identity must be bootstrapped first"))?;
    let project = project(&mut tx, &domain, "service", "").await?;
    let user_id = user(identity, &mut tx, fresh, account.password).await?;
    for name in [SERVICE_ROLE, "admin"] {
        let role = role(&mut tx, name, json!({"immutable": true})).await?;
        grant(&mut tx, &user_id, "project", &project.id, &role.id).await?;
    }
    regions::ensure(&mut tx, account.region_id).await?;
    let service = service(&mut tx, account.kind, account.name).await?;
    for (interface, url) in ["public", "internal", "admin"].into_iter().zip(account.urls) {
        endpoint(&mut tx, &service, interface, Some(account.region_id), url).await?;
    }
    identity.settle(tx).await?;
    Ok(user_id)
}
