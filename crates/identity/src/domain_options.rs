//! Options of a domain: how its users are kept. They are stored and shown; every domain's users are kept here so far.

use std::collections::BTreeMap;

use api::wire::object;
use api::{
    Answer, Body, Call, Document, Done, Json, JsonMap, NoInput, Operation, Path, Permitted, Refusal, Reply, delete,
    get, patch, put, wire,
};
use base::json;
use db::{Tx, select, sql};

use crate::Identity;
use crate::projects::store as projects;

/// What may be set, with upstream's defaults in JSON.
const KNOWN: &[(&str, &[(&str, &str)])] = &[
    ("identity", &[("driver", "\"sql\""), ("list_limit", "null")]),
    (
        "ldap",
        &[
            ("alias_dereferencing", "\"default\""),
            ("auth_pool_connection_lifetime", "60"),
            ("auth_pool_size", "100"),
            ("chase_referrals", "null"),
            ("debug_level", "null"),
            ("group_additional_attribute_mapping", "[]"),
            ("group_attribute_ignore", "[]"),
            ("group_desc_attribute", "\"description\""),
            ("group_filter", "null"),
            ("group_id_attribute", "\"cn\""),
            ("group_member_attribute", "\"member\""),
            ("group_members_are_ids", "false"),
            ("group_name_attribute", "\"ou\""),
            ("group_objectclass", "\"groupOfNames\""),
            ("group_tree_dn", "null"),
            ("page_size", "0"),
            ("pool_connection_lifetime", "600"),
            ("pool_connection_timeout", "-1"),
            ("pool_retry_delay", "0.1"),
            ("pool_retry_max", "3"),
            ("pool_size", "10"),
            ("query_scope", "\"one\""),
            ("suffix", "\"cn=example,cn=com\""),
            ("tls_cacertdir", "null"),
            ("tls_cacertfile", "null"),
            ("tls_req_cert", "\"demand\""),
            ("url", "\"ldap://localhost\""),
            ("use_auth_pool", "true"),
            ("use_pool", "true"),
            ("use_tls", "false"),
            ("user", "null"),
            ("user_additional_attribute_mapping", "[]"),
            ("user_attribute_ignore", "[\"default_project_id\"]"),
            ("user_default_project_id_attribute", "null"),
            ("user_description_attribute", "\"description\""),
            ("user_enabled_attribute", "\"enabled\""),
            ("user_enabled_default", "\"True\""),
            ("user_enabled_emulation", "false"),
            ("user_enabled_emulation_dn", "null"),
            ("user_enabled_emulation_use_group_config", "false"),
            ("user_enabled_invert", "false"),
            ("user_enabled_mask", "0"),
            ("user_filter", "null"),
            ("user_id_attribute", "\"cn\""),
            ("user_mail_attribute", "\"mail\""),
            ("user_name_attribute", "\"sn\""),
            ("user_objectclass", "\"inetOrgPerson\""),
            ("user_pass_attribute", "\"userPassword\""),
            ("user_tree_dn", "null"),
        ],
    ),
];
/// What may be set, but is never shown.
const SENSITIVE: (&str, &str) = ("ldap", "password");

pub fn operations() -> Vec<Operation<Identity>> {
    const ALL: &str = "/domains/{domain_id}/config";
    const GROUP: &str = "/domains/{domain_id}/config/{group}";
    const OPTION: &str = "/domains/{domain_id}/config/{group}/{option}";
    let show_all = |call, Path(id): Path<String>| show(call, id, None, None);
    let show_group = |call, Path((id, group)): Path<(String, String)>| show(call, id, Some(group), None);
    let show_option =
        |call, Path((id, group, option)): Path<(String, String, String)>| show(call, id, Some(group), Some(option));
    let update_all = |call, (Path(id), body): (Path<String>, Body<Config>)| update(call, id, None, None, body);
    let update_group = |call, (Path((id, group)), body): (Path<(String, String)>, Body<Config>)| {
        update(call, id, Some(group), None, body)
    };
    let update_option = |call, (Path((id, group, option)), body): (Path<(String, String, String)>, Body<Config>)| {
        update(call, id, Some(group), Some(option), body)
    };
    let remove_all = |call, Path(id): Path<String>| remove(call, id, None, None);
    let remove_group = |call, Path((id, group)): Path<(String, String)>| remove(call, id, Some(group), None);
    let remove_option =
        |call, Path((id, group, option)): Path<(String, String, String)>| remove(call, id, Some(group), Some(option));
    vec![
        get("/domains/config/default", default).rule("identity:get_domain_config_default"),
        get("/domains/config/{group}/default", default_group).rule("identity:get_domain_config_default"),
        get("/domains/config/{group}/{option}/default", default_option).rule("identity:get_domain_config_default"),
        put(ALL, create).rule("identity:create_domain_config"),
        get(ALL, show_all).rule("identity:get_domain_config"),
        get(GROUP, show_group).rule("identity:get_domain_config"),
        get(OPTION, show_option).rule("identity:get_domain_config"),
        patch(ALL, update_all).rule("identity:update_domain_config"),
        patch(GROUP, update_group).rule("identity:update_domain_config"),
        patch(OPTION, update_option).rule("identity:update_domain_config"),
        delete(ALL, remove_all).rule("identity:delete_domain_config"),
        delete(GROUP, remove_group).rule("identity:delete_domain_config"),
        delete(OPTION, remove_option).rule("identity:delete_domain_config"),
    ]
}

wire! {
    /// What a client sends: groups of options, or a single option.
    pub struct Config {
        config: Json = object().required(),
    }
}

db::record! {
    struct Kept in "domain_options" {
        domain_id: String,
        section: String,
        name: String,
        value: Json,
    }
}

/// Options by group.
type Groups = BTreeMap<String, JsonMap>;

fn invalid(reason: String) -> Refusal {
    Refusal::forbidden(format!("Invalid domain specific configuration: {reason}."))
}

fn defaults(group: &str) -> Answer<&'static [(&'static str, &'static str)]> {
    let known = KNOWN.iter().find(|(name, _)| *name == group).map(|(_, options)| *options);
    known.ok_or_else(|| invalid(format!("Group {group} is not supported for domain specific configurations")))
}

fn known(group: &str, option: &str) -> Answer<()> {
    let fits = defaults(group)?.iter().any(|(name, _)| *name == option) || (group, option) == SENSITIVE;
    match fits {
        true => Ok(()),
        false => Err(invalid(format!(
            "Option {option} in group {group} is not supported for domain specific configurations"
        ))),
    }
}

/// Checks a body of groups.
fn groups(config: &Json) -> Answer<Groups> {
    let given = config.as_object().filter(|map| !map.is_empty());
    let mut groups = Groups::new();
    for (group, options) in given.ok_or_else(|| invalid("No options specified".into()))? {
        let options = options.as_object().filter(|map| !map.is_empty()).ok_or_else(|| {
            invalid(format!("The value of group {group} specified in the config should be a dictionary of options"))
        })?;
        for option in options.keys() {
            known(group, option)?;
        }
        groups.insert(group.clone(), options.clone());
    }
    Ok(groups)
}

/// What is set for a domain, without what is secret.
async fn kept(call: &Call<Identity>, domain_id: &str) -> Answer<Groups> {
    let rows = call.db.all(select::<Kept>("WHERE domain_id = ? ORDER BY section, name").bind(domain_id)).await?;
    let mut groups = Groups::new();
    for row in rows.into_iter().filter(|row| (row.section.as_str(), row.name.as_str()) != SENSITIVE) {
        groups.entry(row.section).or_default().insert(row.name, row.value);
    }
    Ok(groups)
}

/// A part of the options. Upstream: a single option is shown without its group, a group within its name.
fn part(mut groups: Groups, group: Option<&str>, option: Option<&str>) -> Option<Json> {
    match (group, option) {
        (None, _) => Some(json!(groups)).filter(|_| !groups.is_empty()),
        (Some(group), None) => groups.remove(group).map(|options| json!({group: options})),
        (Some(group), Some(option)) => groups.remove(group)?.remove(option).map(|value| json!({option: value})),
    }
}

fn not_set(domain_id: &str, group: Option<&str>, option: Option<&str>) -> Refusal {
    let what = match (group, option) {
        (Some(group), Some(option)) => format!("option {option} in group {group}"),
        (Some(group), None) => format!("group {group}"),
        _ => "any options".to_string(),
    };
    Refusal::not_found(format!("Could not find {what} in domain configuration for domain {domain_id}."))
}

fn default_groups() -> Groups {
    let value = |text: &str| serde_json::from_str(text).unwrap_or_default();
    let options =
        |options: &[(&str, &str)]| options.iter().map(|(name, text)| (name.to_string(), value(text))).collect();
    KNOWN.iter().map(|(group, known)| (group.to_string(), options(known))).collect()
}

async fn default(call: Call<Identity>, _: NoInput) -> Answer<Document> {
    let permitted = call.allow()?;
    Ok(Document::new(permitted, json!({"config": default_groups()})))
}

async fn default_group(call: Call<Identity>, Path(group): Path<String>) -> Answer<Document> {
    let permitted = call.allow()?;
    defaults(&group)?;
    Ok(Document::new(permitted, json!({"config": part(default_groups(), Some(&group), None)})))
}

async fn default_option(call: Call<Identity>, Path((group, option)): Path<(String, String)>) -> Answer<Document> {
    let permitted = call.allow()?;
    known(&group, &option)?;
    Ok(Document::new(permitted, json!({"config": part(default_groups(), Some(&group), Some(&option))})))
}

async fn show(
    call: Call<Identity>,
    domain_id: String,
    group: Option<String>,
    option: Option<String>,
) -> Answer<Document> {
    let compliance = group.as_deref() == Some("security_compliance");
    let permitted = match compliance {
        true => call.allow_by("identity:get_security_compliance_domain_config", &json!({}))?,
        false => call.allow()?,
    };
    projects::domain(&call.db, &domain_id).await?;
    if compliance {
        return show_compliance(&call, permitted, &domain_id, option.as_deref());
    }
    match (&group, &option) {
        (Some(group), Some(option)) => known(group, option)?,
        (Some(group), None) => drop(defaults(group)?),
        _ => {}
    }
    let found = part(kept(&call, &domain_id).await?, group.as_deref(), option.as_deref());
    let found = found.ok_or_else(|| not_set(&domain_id, group.as_deref(), option.as_deref()))?;
    Ok(Document::new(permitted, json!({"config": found})))
}

/// Upstream: everybody may know what passwords must look like, as far as the default domain is concerned.
fn show_compliance(
    call: &Call<Identity>,
    permitted: Permitted<()>,
    domain_id: &str,
    option: Option<&str>,
) -> Answer<Document> {
    if domain_id != call.settings.default_domain_id {
        return Err(invalid(
            "Reading security compliance information for any domain other than the default domain is not allowed or \
             supported."
                .into(),
        ));
    }
    let compliance = &call.settings.compliance;
    let all = json!({
        "password_regex": compliance.password_regex,
        "password_regex_description": compliance.password_regex_description,
    });
    let config = match option {
        None => json!({"security_compliance": all}),
        Some(option) if all.get(option).is_some() => json!({option: all[option]}),
        Some(_) => {
            return Err(invalid(
                "Reading security compliance values other than password_regex and password_regex_description is not \
                 allowed."
                    .into(),
            ));
        }
    };
    Ok(Document::new(permitted, json!({"config": config})))
}

async fn store(tx: &mut Tx, domain_id: &str, groups: &Groups) -> Result<(), db::Error> {
    for (section, options) in groups {
        for (name, value) in options {
            let (domain_id, section, name) = (domain_id.to_string(), section.clone(), name.clone());
            let row = Kept { domain_id, section, name, value: value.clone() };
            tx.upsert(&row, &["domain_id", "section", "name"]).await?;
        }
    }
    Ok(())
}

async fn create(
    call: Call<Identity>,
    (Path(domain_id), Body(new)): (Path<String>, Body<Config>),
) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    projects::domain(&call.db, &domain_id).await?;
    let new = groups(&new.config)?;
    let before = kept(&call, &domain_id).await?;
    let mut tx = call.db.begin().await?;
    tx.run(sql("DELETE FROM domain_options WHERE domain_id = ?").bind(&domain_id)).await?;
    store(&mut tx, &domain_id, &new).await?;
    tx.commit().await?;
    let now = json!({"config": kept(&call, &domain_id).await?});
    let status = if before.is_empty() { 201 } else { 200 };
    Ok(permitted.map(|()| Reply::json(status, &now)))
}

async fn update(
    call: Call<Identity>,
    domain_id: String,
    group: Option<String>,
    option: Option<String>,
    Body(change): Body<Config>,
) -> Answer<Document> {
    let permitted = call.allow()?;
    projects::domain(&call.db, &domain_id).await?;
    let before = kept(&call, &domain_id).await?;
    let change = match (&group, &option) {
        (Some(group), Some(option)) => {
            // Upstream: one option comes without its group.
            known(group, option)?;
            let value = change.config.get(option).cloned().ok_or_else(|| {
                invalid(format!(
                    "Trying to update option {option} in group {group}, so that, and only that, option must be \
                     specified  in the config"
                ))
            })?;
            Groups::from([(group.clone(), JsonMap::from_iter([(option.clone(), value)]))])
        }
        (Some(group), None) => {
            let given = groups(&change.config)?;
            if given.len() != 1 || !given.contains_key(group) {
                return Err(invalid(format!(
                    "Trying to update group {group}, so that, and only that, group must be specified in the config"
                )));
            }
            given
        }
        (None, _) => groups(&change.config)?,
    };
    if group.is_some() && part(before, group.as_deref(), option.as_deref()).is_none() {
        return Err(not_set(&domain_id, group.as_deref(), option.as_deref()));
    }
    let mut tx = call.db.begin().await?;
    store(&mut tx, &domain_id, &change).await?;
    tx.commit().await?;
    Ok(Document::new(permitted, json!({"config": kept(&call, &domain_id).await?})))
}

async fn remove(
    call: Call<Identity>,
    domain_id: String,
    group: Option<String>,
    option: Option<String>,
) -> Answer<Done> {
    let permitted = call.allow()?;
    projects::domain(&call.db, &domain_id).await?;
    let mut statement = sql("DELETE FROM domain_options WHERE domain_id = ?").bind(&domain_id);
    if let Some(group) = &group {
        defaults(group)?;
        statement = statement.and("section = ?").bind(group);
    }
    if let Some(option) = &option {
        statement = statement.and("name = ?").bind(option);
    }
    let gone = call.db.run(statement).await?;
    match gone == 0 && group.is_some() {
        true => Err(not_set(&domain_id, group.as_deref(), option.as_deref())),
        false => Ok(Done::with(permitted)),
    }
}
