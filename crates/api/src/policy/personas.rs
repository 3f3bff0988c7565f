//! The default rules of our services, asked on behalf of upstream's personas.

use std::borrow::Cow;

use super::{NULL, Policy, Target};
use crate::caller::Caller;

/// Who passes which rule, for an ordinary object of the caller's own project.
const FACTS: &str = include_str!("../../tests/facts/policies.tsv");

const SERVICES: &[(&str, &str)] = &[
    ("identity", include_str!("../../../identity/policy.tsv")),
    ("placement", include_str!("../../../placement/policy.tsv")),
    ("image", include_str!("../../../image/policy.tsv")),
    ("network", include_str!("../../../network/policy.tsv")),
    ("compute", include_str!("../../../compute/policy.tsv")),
];

/// Rules whose facts were taken with a token that had a project and a domain at once, which no real token has.
const TWO_SCOPES: &[&str] =
    &["identity:create_user", "identity:delete_user", "identity:list_roles", "identity:update_user"];

/// Scope (project, domain or system) and roles of each persona.
const PERSONAS: &[(&str, char, &[&str])] = &[
    ("any", 'p', &[]),
    ("reader", 'p', &["reader"]),
    ("member", 'p', &["member", "reader"]),
    ("manager", 'p', &["manager", "member", "reader"]),
    ("admin", 'p', &["admin", "manager", "member", "reader"]),
    ("service", 'p', &["service"]),
    ("domain-reader", 'd', &["reader"]),
    ("domain-manager", 'd', &["manager", "member", "reader"]),
    ("domain-admin", 'd', &["admin", "manager", "member", "reader"]),
    ("system-reader", 's', &["reader"]),
    ("system-admin", 's', &["admin", "manager", "member", "reader"]),
];

fn caller(scope: char, roles: &[&str]) -> Caller {
    let roles = roles.iter().map(|role| role.to_string()).collect();
    let mut caller = Caller { user_id: "user".into(), user_domain_id: "domain".into(), roles, ..Caller::default() };
    match scope {
        'p' => {
            caller.project_id = Some("project".into());
            caller.project_domain_id = Some("domain".into());
        }
        'd' => caller.domain_id = Some("domain".into()),
        _ => caller.system = true,
    }
    caller
}

/// An object of the caller's, private and with nothing unusual.
struct Own;

impl Target for Own {
    fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        let last = name.rsplit(['.', ':']).next()?;
        Some(match (name, last) {
            ("target.role.name", _) => "member".into(),
            ("target.limit.project_id", _) => "project".into(),
            ("target.domain.id" | "target.limit.domain.id", _) => "domain".into(),
            ("target.project.id", _) => "project".into(),
            ("visibility", _) => "private".into(),
            ("device_owner", _) => "".into(),
            ("target_tenant" | "target_project", _) => "other".into(),
            ("shared" | "external", _) => "False".into(),
            (_, "project_id" | "tenant_id" | "member_id" | "owner") => "project".into(),
            (_, "domain_id") => "domain".into(),
            (_, "user_id" | "trustor_user_id" | "trustee_user_id") => "user".into(),
            ("target.user.id", _) => "user".into(),
            _ => NULL,
        })
    }
}

#[test]
fn every_default_rule_parses_and_says_what_upstreams_personas_say() {
    let mut wrong = Vec::new();
    for (service, defaults) in SERVICES {
        let policy = Policy::new(defaults, None).unwrap().enforce_scope(false);
        assert_eq!(policy.warnings(), [""; 0], "{service}");
        let facts: Vec<Vec<&str>> = FACTS.lines().map(|line| line.split('\t').collect()).collect();
        let facts: Vec<_> = facts.into_iter().filter(|row| row[0] == *service).collect();
        assert_eq!(facts.len(), policy.names().count(), "{service}");
        for row in facts {
            let rule = policy.rule(row[1]).unwrap();
            for (persona, scope, roles) in PERSONAS {
                let expected = row[2].split(',').any(|name| name == *persona);
                let passes = policy.allows(rule, &caller(*scope, roles), &Own);
                if passes != expected && !TWO_SCOPES.contains(&row[1]) {
                    wrong.push(format!("{service} {} {persona}: expected {expected}", row[1]));
                }
            }
        }
    }
    assert_eq!(wrong, [""; 0], "{} differ", wrong.len());
}

#[test]
fn a_common_decision_is_fast() {
    let policy = Policy::new(SERVICES[4].1, None).unwrap();
    let rule = policy.rule("os_compute_api:servers:show").unwrap();
    let member = caller('p', &["member", "reader"]);
    let start = std::time::Instant::now();
    let count = (0..100_000).filter(|_| policy.allows(rule, &member, &Own)).count();
    // Unoptimised builds are some ten times slower than the budget of a microsecond.
    assert!(start.elapsed().as_micros() < 100_000 * 20, "{:?}", start.elapsed());
    assert_eq!(count, 100_000);
}
