//! The steps of all flows, as the source names them, and what makes the controller go through each.

use anyhow::{Context, Result, bail};
use serde_json::{Value as Json, json};

use crate::http::Session;
use crate::tree::{self, Source};

/// One step of one flow.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub flow: String,
    pub name: String,
}

/// Every step that stands in the source of a service.
pub fn all() -> Vec<Step> {
    let services = tree::sources().into_iter().filter(|source| {
        source.path.contains("/src/") && source.path.ends_with(".rs") && !source.path.starts_with("crates/flow/")
    });
    services.flat_map(|source| of(&source)).collect()
}

/// A file tells one flow: `Kind::new("create_server", 1)`, and its steps: `.step("claim a host", …)`.
fn of(source: &Source) -> Vec<Step> {
    let Some(flow) = quoted(&source.text, "Kind::new(\"").next() else { return Vec::new() };
    let names = quoted(&source.text, ".step(\"");
    names.map(|name| Step { flow: flow.to_owned(), name: name.to_owned() }).collect()
}

/// What stands between this and the next quotation mark, wherever it occurs.
fn quoted<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(before).skip(1).filter_map(|rest| rest.split('"').next())
}

/// Gives the order whose flow has this step. What the crash cuts off is part of the game.
pub fn order(step: &Step, admin: &Session, wanted: &Json, server: &Json) -> Result<()> {
    let id = server["id"].as_str().context("there is no server to work on")?;
    let path = format!("/servers/{id}");
    let _cut_off = match step.flow.as_str() {
        "create_server" => admin.ask("POST", "compute", "/servers", wanted),
        "delete_server" => admin.ask("DELETE", "compute", &path, &Json::Null),
        "power_server" => {
            let reboot = json!({"reboot": {"type": "HARD"}});
            admin.ask("POST", "compute", &format!("{path}/action"), &reboot)
        }
        other => bail!("nobody has said what makes the flow {other} run: add it to xtask/src/kill/steps.rs"),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_found_with_their_flow() {
        let text =
            "const A: Kind<B> = Kind::new(\"create_server\", 1);\nrun.step(\"claim a host\", c)\n.step(\"boot\", d)";
        let found = of(&Source { path: "crates/a/src/a.rs".into(), text: text.into() });
        let step = |name: &str| Step { flow: "create_server".into(), name: name.into() };
        assert_eq!(found, [step("claim a host"), step("boot")]);
    }
}
