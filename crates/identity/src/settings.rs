//! What an operator may set, under the names of keystone.conf.

use std::path::PathBuf;

use base::config::{Config, ConfigError};

use crate::passwords::Algorithm;

/// The domain that has a name of its own instead of an id.
pub const DEFAULT_DOMAIN: &str = "default";

#[derive(Debug, Clone)]
pub struct Settings {
    /// `[identity] default_domain_id`
    pub default_domain_id: String,
    /// `[identity] password_hash_algorithm`, `password_hash_rounds`
    pub algorithm: Algorithm,
    pub rounds: Option<u32>,
    /// `[identity] max_password_length`
    pub max_password_length: usize,
    /// `[DEFAULT] max_project_tree_depth`
    pub max_project_tree_depth: usize,
    /// `[DEFAULT] list_limit`; none is no limit.
    pub list_limit: Option<u32>,
    /// `[token] expiration`, in seconds.
    pub token_expiration_s: i64,
    /// `[token] allow_expired_window`, in seconds.
    pub allow_expired_window_s: i64,
    /// `[token] allow_rescope_scoped_token`
    pub allow_rescope: bool,
    /// `[fernet_tokens] key_repository`, `max_active_keys`
    pub token_keys: PathBuf,
    pub max_token_keys: usize,
    /// `[credential] key_repository`
    pub credential_keys: PathBuf,
    /// `[credential] user_limit`, `[application_credential] user_limit`; -1 is no limit.
    pub credential_limit: i64,
    pub application_credential_limit: i64,
    /// `[trust] max_redelegation_count`
    pub max_redelegation_count: i64,
    /// `[assignment] prohibited_implied_role`
    pub prohibited_implied_roles: Vec<String>,
    /// `[revoke] expiration_buffer`, in seconds.
    pub revocation_buffer_s: i64,
    pub compliance: Compliance,
}

/// `[security_compliance]`
#[derive(Debug, Clone, Default)]
pub struct Compliance {
    pub lockout_failure_attempts: Option<i64>,
    pub lockout_duration_s: i64,
    pub password_expires_days: Option<i64>,
    pub unique_last_password_count: i64,
    pub minimum_password_age_days: i64,
    pub password_regex: Option<String>,
    pub password_regex_description: Option<String>,
    pub change_password_upon_first_use: bool,
    pub disable_user_account_days_inactive: Option<i64>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings::read(&Config::default()).expect("an empty configuration has no wrong values")
    }
}

impl Settings {
    pub fn read(config: &Config) -> Result<Settings, ConfigError> {
        let positive = |section, name, default| Ok::<_, ConfigError>(config.integer(section, name, default)?.max(0));
        let optional = |section, name| Ok::<_, ConfigError>(Some(config.integer(section, name, 0)?).filter(|n| *n > 0));
        let algorithm = config.text_or("identity", "password_hash_algorithm", "bcrypt");
        let algorithm = Algorithm::named(algorithm).ok_or_else(|| ConfigError::Value {
            section: "identity".into(),
            name: "password_hash_algorithm".into(),
            value: algorithm.into(),
            why: "none of bcrypt, bcrypt_sha256, scrypt and pbkdf2_sha512",
        })?;
        let prohibited = config.list("assignment", "prohibited_implied_role");
        Ok(Settings {
            default_domain_id: config.text_or("identity", "default_domain_id", DEFAULT_DOMAIN).to_string(),
            algorithm,
            rounds: optional("identity", "password_hash_rounds")?.and_then(|rounds| u32::try_from(rounds).ok()),
            max_password_length: positive("identity", "max_password_length", 4096)? as usize,
            max_project_tree_depth: positive("DEFAULT", "max_project_tree_depth", 5)? as usize,
            list_limit: optional("DEFAULT", "list_limit")?.and_then(|limit| u32::try_from(limit).ok()),
            token_expiration_s: positive("token", "expiration", 3600)?,
            allow_expired_window_s: positive("token", "allow_expired_window", 172_800)?,
            allow_rescope: config.flag("token", "allow_rescope_scoped_token", true)?,
            token_keys: config.text_or("fernet_tokens", "key_repository", "/etc/keystone/fernet-keys/").into(),
            max_token_keys: positive("fernet_tokens", "max_active_keys", 3)? as usize,
            credential_keys: config.text_or("credential", "key_repository", "/etc/keystone/credential-keys/").into(),
            credential_limit: config.integer("credential", "user_limit", -1)?,
            application_credential_limit: config.integer("application_credential", "user_limit", -1)?,
            max_redelegation_count: positive("trust", "max_redelegation_count", 3)?,
            prohibited_implied_roles: if prohibited.is_empty() { vec!["admin".into()] } else { prohibited },
            revocation_buffer_s: positive("revoke", "expiration_buffer", 1800)?,
            compliance: Compliance::read(config)?,
        })
    }
}

impl Compliance {
    fn read(config: &Config) -> Result<Compliance, ConfigError> {
        const SECTION: &str = "security_compliance";
        let optional = |name| Ok::<_, ConfigError>(Some(config.integer(SECTION, name, 0)?).filter(|n| *n > 0));
        let text = |name| config.text(SECTION, name).map(String::from);
        Ok(Compliance {
            lockout_failure_attempts: optional("lockout_failure_attempts")?,
            lockout_duration_s: config.integer(SECTION, "lockout_duration", 1800)?,
            password_expires_days: optional("password_expires_days")?,
            unique_last_password_count: config.integer(SECTION, "unique_last_password_count", 0)?.max(0),
            minimum_password_age_days: config.integer(SECTION, "minimum_password_age", 0)?.max(0),
            password_regex: text("password_regex"),
            password_regex_description: text("password_regex_description"),
            change_password_upon_first_use: config.flag(SECTION, "change_password_upon_first_use", false)?,
            disable_user_account_days_inactive: optional("disable_user_account_days_inactive")?,
        })
    }
}
