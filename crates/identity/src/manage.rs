//! What an operator runs as `keystone-manage`.

use std::path::Path;

use base::clock;
use db::{Db, Queries, select, sql};

use crate::bootstrap;
pub use crate::bootstrap::{Bootstrap, Bootstrapped};
use crate::credentials::store::Row;
use crate::settings::Settings;
use crate::tokens::KeyRepository;
use crate::tokens::keys::{self, KeyError};
use crate::{Identity, SCHEMA, revocations};

/// Limit: active keys of the credential repository; upstream's number.
const CREDENTIAL_KEYS: usize = 3;

#[derive(Debug, thiserror::Error)]
pub enum ManageError {
    #[error("the key repository")]
    Keys(#[from] KeyError),
    #[error("the identity database")]
    Database(#[from] db::Error),
    #[error(
        "{count} credentials are not sealed with the primary key; run credential_migrate before the keys are rotated \
         again"
    )]
    Unmigrated { count: i64 },
    #[error("{why}")]
    Refused { why: String },
}

/// `bootstrap`: the administrator and what it needs. Running it again changes nothing but the password.
pub async fn bootstrap(identity: &Identity, wanted: Bootstrap) -> Result<Bootstrapped, ManageError> {
    bootstrap::run(identity, &wanted).await.map_err(|refusal| ManageError::Refused {
        why: if refusal.message.is_empty() { "the database failed; see the log".into() } else { refusal.message },
    })
}

/// `db_sync`: brings the database to this program's schema; says which version that is.
pub async fn db_sync(db: &Db) -> Result<u32, db::Error> {
    db.migrate(&SCHEMA).await
}

/// `fernet_setup`: makes the token keys, unless there are any.
pub fn fernet_setup(settings: &Settings) -> Result<(), KeyError> {
    keys::setup(&settings.token_keys)
}

/// `fernet_rotate`: the staged key becomes primary, a new one is staged, the oldest goes.
pub fn fernet_rotate(settings: &Settings) -> Result<(), KeyError> {
    keys::rotate(&settings.token_keys, settings.max_token_keys)
}

/// `credential_setup`: makes the keys that seal credentials, unless there are any.
pub fn credential_setup(settings: &Settings) -> Result<(), KeyError> {
    keys::setup(&settings.credential_keys)
}

/// `credential_rotate`. Refused while there are credentials that only an older key opens.
pub async fn credential_rotate(identity: &Identity) -> Result<(), ManageError> {
    let count = unmigrated(identity).await?;
    if count > 0 {
        return Err(ManageError::Unmigrated { count });
    }
    keys::rotate(&identity.settings.credential_keys, CREDENTIAL_KEYS)?;
    identity.credential_keys.reload();
    Ok(())
}

async fn unmigrated(identity: &Identity) -> Result<i64, db::Error> {
    let primary = crate::credentials::store::primary_hash(&identity.credential_keys);
    identity.db.count(sql("SELECT COUNT(*) FROM credentials WHERE key_hash <> ?").bind(primary)).await
}

/// `credential_migrate`: seals every credential with the primary key. Returns how many were sealed anew.
pub async fn credential_migrate(identity: &Identity) -> Result<u64, ManageError> {
    let keys = &identity.credential_keys;
    let primary = crate::credentials::store::primary_hash(keys);
    let mut done = 0;
    for row in identity.db.all(select::<Row>("WHERE key_hash <> ?").bind(&primary)).await? {
        let (id, before) = (row.id.clone(), row.sealed.clone());
        let Some(credential) = row.opened(keys) else {
            tracing::error!(credential = id, "no key opens this credential");
            continue;
        };
        let anew = credential.sealed(keys);
        // Somebody may have changed it meanwhile.
        let statement = sql("UPDATE credentials SET sealed = ?, key_hash = ? WHERE id = ? AND sealed = ?");
        let statement = statement.bind(&anew.sealed).bind(&anew.key_hash).bind(&id).bind(&before);
        done += identity.db.run(statement).await?;
    }
    Ok(done)
}

/// `token_flush`: tokens are not stored; what goes are revocations of tokens that have expired by now.
pub async fn token_flush(identity: &Identity) -> Result<u64, db::Error> {
    revocations::flush(identity).await
}

/// One thing that an operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub wrong: String,
    pub remedy: &'static str,
}

/// `doctor`: what is wrong, and what would mend it. Nothing is changed.
pub async fn doctor(db: &Db, settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, remedy) in [
        (&settings.token_keys, "keystone-manage fernet_setup"),
        (&settings.credential_keys, "keystone-manage credential_setup"),
    ] {
        findings.extend(key_findings(path, remedy));
    }
    match rows_without_owner(db).await {
        Ok(orphans) => findings.extend(orphans),
        Err(error) => {
            let wrong = format!("the database cannot be asked: {error}");
            findings.push(Finding { wrong, remedy: "check [database] connection, then keystone-manage db_sync" });
        }
    }
    if settings.token_expiration_s > 24 * 3600 {
        let wrong = format!("tokens live for {} s", settings.token_expiration_s);
        findings.push(Finding { wrong, remedy: "set [token] expiration to a day or less" });
    }
    findings
}

fn key_findings(path: &Path, remedy: &'static str) -> Vec<Finding> {
    match KeyRepository::open(path) {
        Err(error) => vec![Finding { wrong: error.to_string(), remedy }],
        Ok(repository) => {
            let keys = repository.keys();
            let works = keys.open(&keys.seal(b"doctor", clock::now())).is_some();
            let wrong = format!("the keys in {} do not open what they seal", path.display());
            if works { Vec::new() } else { vec![Finding { wrong, remedy }] }
        }
    }
}

/// Rows that name something which is not there.
async fn rows_without_owner(db: &Db) -> Result<Vec<Finding>, db::Error> {
    const REMEDY: &str = "report it: this is a defect of ours";
    let questions = [
        (
            "grants for users who are gone",
            "SELECT COUNT(*) FROM assignments WHERE actor_kind = 'user' AND actor_id NOT IN (SELECT id FROM users)",
        ),
        (
            "grants for groups that are gone",
            "SELECT COUNT(*) FROM assignments WHERE actor_kind = 'group' AND actor_id NOT IN (SELECT id FROM user_groups)",
        ),
        (
            "grants of roles that are gone",
            "SELECT COUNT(*) FROM assignments WHERE role_id NOT IN (SELECT id FROM roles)",
        ),
        (
            "grants on projects and domains that are gone",
            "SELECT COUNT(*) FROM assignments WHERE target_kind <> 'system' AND target_id NOT IN (SELECT id FROM projects)",
        ),
        (
            "projects whose parent is gone",
            "SELECT COUNT(*) FROM projects WHERE parent_id IS NOT NULL AND parent_id NOT IN (SELECT id FROM projects)",
        ),
        ("users whose domain is gone", "SELECT COUNT(*) FROM users WHERE domain_id NOT IN (SELECT id FROM projects)"),
        (
            "endpoints whose service is gone",
            "SELECT COUNT(*) FROM endpoints WHERE service_id NOT IN (SELECT id FROM services)",
        ),
        (
            "members of groups who are gone",
            "SELECT COUNT(*) FROM memberships WHERE user_id NOT IN (SELECT id FROM users)",
        ),
    ];
    let mut findings = Vec::new();
    let mut db = db;
    for (what, question) in questions {
        let count = Queries::count(&mut db, sql(question)).await?;
        if count > 0 {
            findings.push(Finding { wrong: format!("there are {count} {what}"), remedy: REMEDY });
        }
    }
    Ok(findings)
}
