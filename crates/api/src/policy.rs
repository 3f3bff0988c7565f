//! Who may do what: oslo.policy's rules, their defaults and an operator's overrides.
//!
//! Every rule of a service is parsed once, at start. A rule is then an index, and a decision a walk over a small tree.

mod check;
mod parse;
#[cfg(test)]
mod personas;

use std::collections::HashMap;

use base::Json;

use crate::caller::Caller;
use check::Check;
pub use check::{NULL, Target};

/// Limit: an operator's policy file; all defaults of the largest service written out have 150 KB.
const FILE_BYTES: usize = 1 << 20;
/// Limit: one rule; the longest default has 1.1 KB.
const RULE_BYTES: usize = 64 << 10;
/// Limit: parentheses and `not` within one rule, and references from rule to rule.
const NESTING: usize = 32;
/// Limit: checks that one decision may visit, so that rules which double each other cannot stop the service.
const CHECKS: u32 = 10_000;

/// One rule of a [`Policy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RuleId(u32);

/// Why a call was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// The rule is not fulfilled.
    Rule,
    /// The rule cannot be fulfilled with a token of this scope.
    Scope,
}

/// Why a policy file is refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("the policy file is longer than {FILE_BYTES} bytes")]
    TooLong,
    #[error("the policy file cannot be read: {0}")]
    Syntax(String),
    #[error("the policy file must map names of rules to rules")]
    Shape,
    #[error("the rule '{rule}': {why}")]
    Remote { rule: String, why: String },
    #[error("the rule '{0}' refers to itself")]
    Cycle(String),
    #[error("the rule '{0}' refers to too many other rules")]
    TooLarge(String),
}

/// Scopes that a token may have, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Scopes(u8);

impl Scopes {
    const SYSTEM: u8 = 1;
    const DOMAIN: u8 = 2;
    const PROJECT: u8 = 4;
    const ANY: Scopes = Scopes(7);

    fn parse(text: &str) -> Scopes {
        let bits = text.split(',').map(|name| match name.trim() {
            "system" => Scopes::SYSTEM,
            "domain" => Scopes::DOMAIN,
            "project" => Scopes::PROJECT,
            _ => 0,
        });
        match bits.fold(0, |all, bit| all | bit) {
            0 => Scopes::ANY,
            bits => Scopes(bits),
        }
    }

    /// Upstream: an unscoped token counts as one of a project.
    fn allow(self, caller: &Caller) -> bool {
        let bit = match caller {
            Caller { system: true, .. } => Scopes::SYSTEM,
            Caller { domain_id: Some(_), .. } => Scopes::DOMAIN,
            _ => Scopes::PROJECT,
        };
        self.0 & bit != 0
    }
}

struct Rule {
    name: String,
    check: Check,
    scopes: Scopes,
}

/// All rules of one service.
pub struct Policy {
    rules: Vec<Rule>,
    by_name: HashMap<String, RuleId>,
    enforce_scope: bool,
    warnings: Vec<String>,
}

impl Policy {
    /// `defaults` has a line per rule: name, default, scope types, older name, separated by tabs, `-` for none.
    /// `overrides` is the text of an operator's `policy.yaml`, in YAML or JSON.
    ///
    /// A rule that cannot be read is false and a warning; a file that cannot be read, a check that asks another
    /// server, and rules which refer to each other in a circle are errors.
    pub fn new(defaults: &str, overrides: Option<&str>) -> Result<Policy, PolicyError> {
        let mut policy =
            Policy { rules: Vec::new(), by_name: HashMap::new(), enforce_scope: true, warnings: Vec::new() };
        let mut overrides = read_overrides(overrides)?;
        for line in defaults.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
            policy.add_default(line, &mut overrides)?;
        }
        for (name, value) in overrides {
            let check = policy.read(&name, &value)?;
            policy.add(Rule { name, check, scopes: Scopes::ANY });
        }
        policy.resolve();
        policy.refuse_cycles()?;
        Ok(policy)
    }

    /// `[oslo_policy] enforce_scope`; true unless said otherwise.
    pub fn enforce_scope(mut self, enforce: bool) -> Policy {
        self.enforce_scope = enforce;
        self
    }

    /// What an operator should mend, one sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Finds a rule, once; decisions take the result.
    pub fn rule(&self, name: &str) -> Option<RuleId> {
        self.by_name.get(name).copied()
    }

    pub fn name(&self, rule: RuleId) -> &str {
        &self.rules[rule.0 as usize].name
    }

    /// Every rule's name, in the order of the defaults.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| rule.name.as_str())
    }

    pub fn allows(&self, rule: RuleId, caller: &Caller, target: &dyn Target) -> bool {
        self.decide(rule, caller, target).is_ok()
    }

    /// Decides on one call. The scope is that of the rule asked for, not of those it refers to.
    pub fn decide(&self, rule: RuleId, caller: &Caller, target: &dyn Target) -> Result<(), Denied> {
        if self.enforce_scope && !self.rules[rule.0 as usize].scopes.allow(caller) {
            return Err(Denied::Scope);
        }
        if self.passes(rule, caller, target) { Ok(()) } else { Err(Denied::Rule) }
    }

    fn passes(&self, rule: RuleId, caller: &Caller, target: &dyn Target) -> bool {
        self.rules[rule.0 as usize].check.passes(&|rule| self.passes(rule, caller, target), caller, target)
    }

    fn add(&mut self, rule: Rule) {
        let id = RuleId(self.rules.len() as u32);
        self.by_name.insert(rule.name.clone(), id);
        self.rules.push(rule);
    }

    fn add_default(&mut self, line: &str, overrides: &mut Vec<(String, Json)>) -> Result<(), PolicyError> {
        let mut columns = line.split('\t');
        let mut column = || columns.next().filter(|text| *text != "-").unwrap_or_default();
        let (name, default, scopes, older) = (column(), column(), column(), column());
        let mut check = self.read(name, &Json::String(default.to_string()))?;
        if let Some(at) = overrides.iter().position(|(key, _)| key == name) {
            let (_, value) = overrides.remove(at);
            check = self.read(name, &value)?;
        } else if let Some((_, value)) = overrides.iter().find(|(key, _)| key == older && older != name) {
            // Upstream: an override of the older name that just points at the new one changes nothing.
            if value.as_str() != Some(&format!("rule:{name}")) {
                check = self.read(older, value)?;
                self.warn(format!("the policy file overrides '{older}', which is now called '{name}'"));
            }
        }
        self.add(Rule { name: name.to_string(), check, scopes: Scopes::parse(scopes) });
        Ok(())
    }

    fn read(&mut self, name: &str, value: &Json) -> Result<Check, PolicyError> {
        match parse::rule(value) {
            Ok(check) => Ok(check),
            Err(why @ parse::Unreadable::Remote(_)) => {
                Err(PolicyError::Remote { rule: name.to_string(), why: why.to_string() })
            }
            Err(why) => {
                self.warn(format!("the rule '{name}' refuses everybody, because it cannot be read: {why}"));
                Ok(Check::False)
            }
        }
    }

    /// Turns names of rules into indexes.
    fn resolve(&mut self) {
        let mut unknown = Vec::new();
        for rule in &mut self.rules {
            let name = &rule.name;
            rule.check.references(&mut |check| {
                let Check::Named(wanted) = check else { return };
                match self.by_name.get(wanted.as_str()) {
                    Some(id) => *check = Check::Rule(*id),
                    None => unknown.push(format!("the rule '{name}' refers to '{wanted}', which does not exist")),
                }
            });
        }
        unknown.into_iter().for_each(|warning| self.warn(warning));
    }

    fn warn(&mut self, warning: String) {
        tracing::warn!("{warning}");
        self.warnings.push(warning);
    }

    /// Proves that every decision ends, and soon.
    fn refuse_cycles(&mut self) -> Result<(), PolicyError> {
        let mut edges = Vec::new();
        for rule in &mut self.rules {
            let mut to = Vec::new();
            rule.check.references(&mut |check| {
                if let Check::Rule(id) = check {
                    to.push(id.0 as usize);
                }
            });
            edges.push(to);
        }
        let mut costs = vec![None; edges.len()];
        for at in 0..edges.len() {
            let cost = cost(at, &edges, &mut costs, 0).map_err(|error| self.too_large(at, error))?;
            if cost > CHECKS {
                return Err(self.too_large(at, Endless::Large));
            }
        }
        Ok(())
    }

    fn too_large(&self, at: usize, why: Endless) -> PolicyError {
        match why {
            Endless::Cycle(at) => PolicyError::Cycle(self.rules[at].name.clone()),
            Endless::Large => PolicyError::TooLarge(self.rules[at].name.clone()),
        }
    }
}

enum Endless {
    Cycle(usize),
    Large,
}

/// Rules that one decision on the rule `at` may visit. A cost of zero marks a rule that is being counted.
fn cost(at: usize, edges: &[Vec<usize>], costs: &mut [Option<u32>], depth: usize) -> Result<u32, Endless> {
    match costs[at] {
        Some(0) => return Err(Endless::Cycle(at)),
        Some(cost) => return Ok(cost),
        None if depth > NESTING => return Err(Endless::Large),
        None => costs[at] = Some(0),
    }
    let mut sum = 1_u32;
    for next in &edges[at] {
        sum = sum.saturating_add(cost(*next, edges, costs, depth + 1)?);
    }
    costs[at] = Some(sum);
    Ok(sum)
}

fn read_overrides(text: Option<&str>) -> Result<Vec<(String, Json)>, PolicyError> {
    let text = text.unwrap_or_default();
    if text.len() > FILE_BYTES {
        return Err(PolicyError::TooLong);
    }
    // JSON is YAML; an empty file or one of comments is null.
    let file: Json = serde_norway::from_str(text).map_err(|why| PolicyError::Syntax(why.to_string()))?;
    match file {
        Json::Null => Ok(Vec::new()),
        Json::Object(rules) => Ok(rules.into_iter().collect()),
        _ => Err(PolicyError::Shape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::json;

    fn caller(roles: &[&str]) -> Caller {
        Caller {
            user_id: "u1".into(),
            project_id: Some("p1".into()),
            project_domain_id: Some("d1".into()),
            user_domain_id: "d1".into(),
            roles: roles.iter().map(|role| role.to_string()).collect(),
            ..Caller::default()
        }
    }

    /// Whether a member of p1 passes `rule` for an object of p1.
    fn passes(rule: &str) -> bool {
        let policy = Policy::new(&format!("r\t{rule}\t-\t-\nadmin\trole:admin\t-\t-"), None).unwrap();
        let object = json!({"project_id": "p1", "public": true, "nothing": null, "target": {"name": "x"}, "n": 7});
        policy.allows(policy.rule("r").unwrap(), &caller(&["member", "Reader"]), &object)
    }

    #[test]
    fn the_language_is_oslos() {
        for rule in [
            "@",
            "",
            "not !",
            "role:member",
            "role:MEMBER and role:reader",
            "not rule:admin",
            "! or @ and @",
            "project_id:%(project_id)s",
            "user_id:u1",
            "(role:x or (role:member and not role:y))",
            "'x':%(target.name)s",
            "None:%(nothing)s",
            "True:%(public)s",
            "7:%(n)s",
            "tenant_id:%(project_id)s",
            "domain_id:None",
            "token.project.domain.id:d1",
            "field:things:public=True",
            "field:things:project_id=~p",
            "is_admin:False",
            "NOT role:x AND role:member",
            "project_id:p%(n)s or user_id:%(target.name)s or role:mem%%ber or @",
            "roles:member",
        ] {
            assert!(passes(rule), "{rule}");
        }
        for rule in [
            "!",
            "not @",
            "role:x",
            "rule:admin",
            "rule:unknown",
            "project_id:%(missing)s",
            "None:%(missing)s",
            "not (role:x or role:member)",
            "token.domain.id:d1",
            "domain_id:%(nothing)s",
            "True:%(n)s",
            "whatever:1",
            "is_admin:1",
            "role:member and",
            "field:things:missing=1",
            "field:things:project_id=~1",
            "system_scope:all",
        ] {
            assert!(!passes(rule), "{rule}");
        }
    }

    #[test]
    fn an_operators_file_overrides_defaults() {
        let defaults = "a\trole:admin\t-\told:a\nb\trule:a\t-\t-\nc\trole:admin\t-\told:c\n";
        for file in ["\"a\": \"role:member\"", "{\"old:a\": [[\"role:member\"]]}", "old:a: role:member\nold:c: rule:c"]
        {
            let policy = Policy::new(defaults, Some(file)).unwrap();
            let allowed = |name| policy.allows(policy.rule(name).unwrap(), &caller(&["member"]), &());
            assert!(allowed("a") && allowed("b") && !allowed("c"), "{file}");
        }
        let policy = Policy::new(defaults, Some("# nothing\n")).unwrap();
        assert!(!policy.allows(policy.rule("a").unwrap(), &caller(&["member"]), &()));
        assert_eq!(policy.warnings(), [""; 0]);
    }

    #[test]
    fn dangerous_files_are_refused() {
        let refused = |file: &str| Policy::new("a\trule:b\t-\t-\nb\t@\t-\t-", Some(file)).err().unwrap();
        assert_eq!(refused("b: rule:a"), PolicyError::Cycle("a".into()));
        assert_eq!(refused("[1, 2]"), PolicyError::Shape);
        assert!(matches!(refused("a: 'http://x/'"), PolicyError::Remote { .. }));
        assert!(matches!(refused("a: ["), PolicyError::Syntax(_)));
        assert_eq!(refused(&" ".repeat(FILE_BYTES + 1)), PolicyError::TooLong);
        let doubling: String = (0..20).map(|n| format!("x{n}: rule:x{} or rule:x{}\n", n + 1, n + 1)).collect();
        assert!(matches!(refused(&doubling.replace("x20", "b")), PolicyError::TooLarge(_)));
    }

    #[test]
    fn a_broken_override_refuses_everybody_and_says_so() {
        let policy = Policy::new("a\t@\t-\t-", Some("a: 'role:x or'\nz: rule:nowhere")).unwrap();
        assert!(!policy.allows(policy.rule("a").unwrap(), &caller(&["x"]), &()));
        assert_eq!(policy.warnings().len(), 2);
    }

    #[test]
    fn a_token_of_another_scope_is_told_apart() {
        let policy = Policy::new("a\trole:admin\tproject\t-", None).unwrap();
        let rule = policy.rule("a").unwrap();
        let system = Caller { system: true, project_id: None, ..caller(&["admin"]) };
        assert_eq!(policy.decide(rule, &system, &()), Err(Denied::Scope));
        assert_eq!(policy.decide(rule, &caller(&["member"]), &()), Err(Denied::Rule));
        assert_eq!(policy.decide(rule, &caller(&["admin"]), &()), Ok(()));
        assert!(policy.enforce_scope(false).allows(rule, &system, &()));
    }
}
