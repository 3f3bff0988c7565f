//! Credentials as rows: what is secret is sealed with the credential keys.

use base::{Json, clock};
use db::{Queries, select, sql};
use sha1::{Digest, Sha1};

use crate::tokens::KeyRepository;
use crate::tokens::fernet::Keys;

db::record! {
    pub struct Row in "credentials" {
        pub id: String,
        pub user_id: String,
        pub project_id: Option<String>,
        pub r#type: String,
        pub sealed: String,
        pub key_hash: String,
        pub extra: Json,
    }
}

/// A credential as its owner sees it.
#[derive(Debug, Clone)]
pub struct Credential {
    pub id: String,
    pub user_id: String,
    pub project_id: Option<String>,
    pub kind: String,
    pub blob: String,
    pub extra: Json,
}

impl Credential {
    /// Upstream: ids of EC2 credentials are made from their access key, so that they can be found by it.
    pub fn id_of_access(access: &str) -> String {
        use sha2::Digest as _;
        sha2::Sha256::digest(access).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub fn sealed(&self, keys: &KeyRepository) -> Row {
        let keys = keys.keys();
        Row {
            id: self.id.clone(),
            user_id: self.user_id.clone(),
            project_id: self.project_id.clone(),
            r#type: self.kind.clone(),
            sealed: keys.seal(self.blob.as_bytes(), clock::now()),
            key_hash: hash(&keys),
            extra: self.extra.clone(),
        }
    }

    /// What rules may ask about it.
    pub fn target(&self) -> Json {
        base::json!({"id": self.id, "user_id": self.user_id, "project_id": self.project_id, "type": self.kind})
    }
}

impl Row {
    /// `None` when no key of ours fits.
    pub fn opened(self, keys: &KeyRepository) -> Option<Credential> {
        let (blob, _) = keys.keys().open(&self.sealed)?;
        Some(Credential {
            blob: String::from_utf8(blob).ok()?,
            id: self.id,
            user_id: self.user_id,
            project_id: self.project_id,
            kind: self.r#type,
            extra: self.extra,
        })
    }
}

/// Upstream's name of a key: the SHA-1 of its text.
fn hash(keys: &Keys) -> String {
    Sha1::digest(keys.primary_text()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name of the key that seals now.
pub fn primary_hash(keys: &KeyRepository) -> String {
    hash(&keys.keys())
}

pub async fn find(mut db: impl Queries, keys: &KeyRepository, id: &str) -> Result<Option<Credential>, db::Error> {
    let row = db.maybe(select::<Row>("WHERE id = ?").bind(id)).await?;
    Ok(row.and_then(|row| row.opened(keys)))
}

pub async fn of_user(
    mut db: impl Queries,
    keys: &KeyRepository,
    user_id: &str,
    kind: &str,
) -> Result<Vec<Credential>, db::Error> {
    let rows = db.all(select::<Row>("WHERE user_id = ? AND \"type\" = ? ORDER BY id").bind(user_id).bind(kind)).await?;
    Ok(rows.into_iter().filter_map(|row| row.opened(keys)).collect())
}

pub async fn delete(mut db: impl Queries, id: &str) -> Result<u64, db::Error> {
    db.run(sql("DELETE FROM credentials WHERE id = ?").bind(id)).await
}
