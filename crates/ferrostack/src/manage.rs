//! Upstream's administration commands: this executable under another name, with the same arguments.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use db::{Db, Schema};
use identity::manage::{self, Bootstrap};

use crate::configuration;

/// The names that this executable answers to, beside its own.
const NAMES: &[(&str, &str)] = &[
    ("keystone-manage", "identity"),
    ("glance-manage", "image"),
    ("placement-manage", "placement"),
    ("nova-manage", "compute"),
    ("neutron-db-manage", "network"),
];

/// Runs as another command when called by its name, or as `ferrostack keystone-manage …`.
pub fn by_name() -> Option<ExitCode> {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let called = |argument: &OsString| {
        let name = PathBuf::from(argument).file_name()?.to_str()?.to_string();
        NAMES.iter().find(|(known, _)| *known == name).copied()
    };
    let (name, service) = match arguments.first().and_then(called) {
        Some(found) => found,
        None => {
            let found = arguments.get(1).and_then(called)?;
            arguments.remove(0);
            found
        }
    };
    base::logging::start(false, false);
    let done = if service == "identity" { keystone(arguments) } else { others(service, arguments) };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    })
}

#[derive(Debug, Parser)]
#[command(name = "keystone-manage", version)]
struct Keystone {
    /// keystone.conf, or the directory that has keystone/keystone.conf
    #[arg(long, default_value = "/etc", value_name = "DIRECTORY")]
    config_dir: PathBuf,
    #[command(subcommand)]
    verb: KeystoneVerb,
}

#[derive(Debug, Subcommand)]
#[command(rename_all = "snake_case")]
enum KeystoneVerb {
    /// Make the administrator, its roles and the identity service
    Bootstrap(BootstrapArguments),
    /// Bring the database up to date
    DbSync,
    /// Print the version of the database
    DbVersion,
    /// Make the keys of tokens
    FernetSetup(KeyOwner),
    /// Let the staged key sign, and stage a new one
    FernetRotate(KeyOwner),
    /// Make the keys that credentials are sealed with
    CredentialSetup(KeyOwner),
    /// Remove what tells of tokens that have expired anyway
    TokenFlush,
    /// Say what is wrong and what helps
    Doctor,
}

#[derive(Debug, Args)]
struct KeyOwner {
    #[arg(long, value_name = "USER")]
    keystone_user: Option<String>,
    #[arg(long, value_name = "GROUP")]
    keystone_group: Option<String>,
}

#[derive(Debug, Args)]
struct BootstrapArguments {
    #[arg(long, env = "OS_BOOTSTRAP_USERNAME", default_value = "admin")]
    bootstrap_username: String,
    #[arg(long, env = "OS_BOOTSTRAP_PASSWORD", hide_env_values = true)]
    bootstrap_password: Option<String>,
    #[arg(long, env = "OS_BOOTSTRAP_PROJECT_NAME", default_value = "admin")]
    bootstrap_project_name: String,
    #[arg(long, env = "OS_BOOTSTRAP_ROLE_NAME", default_value = "admin")]
    bootstrap_role_name: String,
    #[arg(long, env = "OS_BOOTSTRAP_SERVICE_NAME", default_value = "keystone")]
    bootstrap_service_name: String,
    #[arg(long, env = "OS_BOOTSTRAP_ADMIN_URL")]
    bootstrap_admin_url: Option<String>,
    #[arg(long, env = "OS_BOOTSTRAP_PUBLIC_URL")]
    bootstrap_public_url: Option<String>,
    #[arg(long, env = "OS_BOOTSTRAP_INTERNAL_URL")]
    bootstrap_internal_url: Option<String>,
    #[arg(long, env = "OS_BOOTSTRAP_REGION_ID")]
    bootstrap_region_id: Option<String>,
}

impl BootstrapArguments {
    fn wanted(self) -> Result<Bootstrap> {
        let Some(password) = self.bootstrap_password else {
            bail!("a password is required: --bootstrap-password, or OS_BOOTSTRAP_PASSWORD in the environment");
        };
        Ok(Bootstrap {
            username: self.bootstrap_username,
            project_name: self.bootstrap_project_name,
            role_name: self.bootstrap_role_name,
            service_name: self.bootstrap_service_name,
            region: self.bootstrap_region_id,
            public_url: self.bootstrap_public_url,
            internal_url: self.bootstrap_internal_url,
            admin_url: self.bootstrap_admin_url,
            password,
            ..Bootstrap::default()
        })
    }
}

fn keystone(arguments: Vec<OsString>) -> Result<()> {
    let command = Keystone::parse_from(arguments);
    let config = configuration::read(&command.config_dir, "identity")?;
    let settings = identity::Settings::read(&config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let database = || open(&config, "identity");
        let whole = || -> Result<_> { Ok(identity::Identity::new(database()?, settings.clone(), None)?) };
        match command.verb {
            KeystoneVerb::DbSync => drop(manage::db_sync(&database()?).await?),
            KeystoneVerb::DbVersion => println!("{}", database()?.version(&identity::SCHEMA).await?),
            KeystoneVerb::FernetSetup(owner) => {
                manage::fernet_setup(&settings)?;
                give(&settings.token_keys, &owner)?;
            }
            KeystoneVerb::FernetRotate(owner) => {
                manage::fernet_rotate(&settings)?;
                give(&settings.token_keys, &owner)?;
            }
            KeystoneVerb::CredentialSetup(owner) => {
                manage::credential_setup(&settings)?;
                give(&settings.credential_keys, &owner)?;
            }
            KeystoneVerb::TokenFlush => drop(manage::token_flush(&*whole()?).await?),
            KeystoneVerb::Bootstrap(arguments) => {
                manage::bootstrap(&*whole()?, arguments.wanted()?).await?;
            }
            KeystoneVerb::Doctor => {
                let findings = manage::doctor(&database()?, &settings).await;
                findings.iter().for_each(|finding| println!("- {}\n  {}", finding.wrong, finding.remedy));
                if !findings.is_empty() {
                    bail!("{} findings", findings.len());
                }
            }
        }
        Ok(())
    })
}

/// Hands a key repository to the user that identity runs as.
fn give(folder: &std::path::Path, owner: &KeyOwner) -> Result<()> {
    let user = owner.keystone_user.as_deref().map(nix::unistd::User::from_name).transpose()?;
    let group = owner.keystone_group.as_deref().map(nix::unistd::Group::from_name).transpose()?;
    let uid = match (&owner.keystone_user, user.flatten()) {
        (Some(name), None) => bail!("there is no user {name}"),
        (_, user) => user.map(|user| user.uid),
    };
    let gid = match (&owner.keystone_group, group.flatten()) {
        (Some(name), None) => bail!("there is no group {name}"),
        (_, group) => group.map(|group| group.gid),
    };
    if uid.is_none() && gid.is_none() {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder)?.flatten().map(|entry| entry.path()).chain([folder.to_path_buf()]) {
        nix::unistd::chown(&entry, uid, gid).with_context(|| format!("giving {} away", entry.display()))?;
    }
    Ok(())
}

#[derive(Debug, Parser)]
#[command(version)]
struct Other {
    #[arg(long, default_value = "/etc", value_name = "DIRECTORY")]
    config_dir: PathBuf,
    /// Upstream's words: `db sync`, `db_sync`, `api_db sync`, `upgrade head`
    words: Vec<String>,
}

/// The one verb that the other commands have so far: bringing the database up to date.
fn others(service: &str, arguments: Vec<OsString>) -> Result<()> {
    let command = Other::parse_from(arguments);
    let words: Vec<&str> = command.words.iter().map(String::as_str).collect();
    let config = configuration::read(&command.config_dir, service)?;
    match words.as_slice() {
        ["db", "sync"] | ["db_sync"] | ["upgrade", ..] => {
            let schema = schema(service);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                open(&config, service)?.migrate(schema).await?;
                Ok(())
            })
        }
        // Upstream splits compute's tables over two databases; here they are in one.
        ["api_db", "sync"] | ["cell_v2", ..] if service == "compute" => Ok(()),
        other => bail!("«{}» is not there yet; db sync is", other.join(" ")),
    }
}

fn schema(service: &str) -> &'static Schema {
    match service {
        "image" => &image::SCHEMA,
        "placement" => &placement::SCHEMA,
        "compute" => &compute::SCHEMA,
        "network" => &network::SCHEMA,
        _ => &identity::SCHEMA,
    }
}

fn open(config: &base::config::Config, service: &str) -> Result<Db> {
    let named = config.text("database", "connection").or_else(|| config.text("placement_database", "connection"));
    let url = named.with_context(|| format!("the configuration of {service} names no [database] connection"))?;
    Db::open(url, db::Options::default()).with_context(|| format!("opening the database of {service}"))
}
