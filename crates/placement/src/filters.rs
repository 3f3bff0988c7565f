//! The little languages of this service's queries: `resources`, `required`, `member_of`.

use std::collections::{BTreeSet, HashSet};

use api::{Answer, Call, Query, Refusal, v};
use db::{Queries, sql};

use crate::Placement;
use crate::exchange::bad_query;
use crate::standard;

/// `required`: every set must be met by one of its traits, and none of `forbidden` may be there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traits {
    pub required: Vec<BTreeSet<String>>,
    pub forbidden: BTreeSet<String>,
}

/// `member_of`: one aggregate of every set of `any`, and none of `none`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Membership {
    pub any: Vec<BTreeSet<String>>,
    pub none: BTreeSet<String>,
}

/// `VCPU:2,MEMORY_MB:1024`, in the order given; a repeated class counts once, with its last amount.
pub fn resources(text: &str) -> Answer<Vec<(String, i64)>> {
    let badly = |got: &str| {
        Refusal::bad_request(format!(
            "Badly formed resources parameter. Expected resources query string parameter in form: \
             ?resources=VCPU:2,MEMORY_MB:1024. Got: {got}."
        ))
    };
    if text.trim().is_empty() {
        return Err(badly("empty string"));
    }
    let mut resources: Vec<(String, i64)> = Vec::new();
    for pair in text.split(',') {
        let (name, amount) = pair.split_once(':').filter(|(_, rest)| !rest.contains(':')).ok_or_else(|| badly(pair))?;
        let parsed: Result<i64, _> = amount.trim().parse();
        let amount = match parsed {
            Err(_) => {
                let text = format!("Requested resource {name} expected positive integer amount. Got: {amount}.");
                return Err(Refusal::bad_request(text));
            }
            Ok(amount) if amount < 1 => {
                let text = format!("Requested resource {name} requires amount >= 1. Got: {amount}.");
                return Err(Refusal::bad_request(text));
            }
            Ok(amount) => amount,
        };
        match resources.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = amount,
            None => resources.push((name.to_string(), amount)),
        }
    }
    Ok(resources)
}

/// The values of `name` in a query. Upstream: before 1.39 only the last one counts.
pub fn required(call: &Call<Placement>, name: &str) -> Answer<Traits> {
    let values: Vec<&str> = call.query.all(name).collect();
    let values = if call.version >= v(1, 39) { &values[..] } else { &values[values.len().saturating_sub(1)..] };
    let mut all = Traits::default();
    for value in values {
        let one = traits(value, call.version >= v(1, 22), call.version >= v(1, 39))?;
        all.required.extend(one.required);
        all.forbidden.extend(one.forbidden);
    }
    Ok(all)
}

/// One value: `A,!B`, or `in:A,B`.
pub fn traits(text: &str, may_forbid: bool, may_choose: bool) -> Answer<Traits> {
    if let Some(choice) = text.strip_prefix("in:") {
        return any_of(text, choice, may_choose);
    }
    // Upstream: any number of exclamation marks forbids once.
    let (forbidden, required): (Vec<&str>, Vec<&str>) =
        text.split(',').map(str::trim).partition(|name| name.starts_with('!'));
    let forbidden: BTreeSet<String> = forbidden.iter().map(|name| name.trim_start_matches('!').to_string()).collect();
    if forbidden.contains("") || required.contains(&"") {
        let form = if may_forbid { "HW_CPU_X86_VMX,!CUSTOM_MAGIC" } else { "HW_CPU_X86_VMX,CUSTOM_MAGIC" };
        let why = format!("Expected 'required' parameter value of the form: {form}. Got an empty trait in: {text}");
        return Err(bad_query(why));
    }
    if !forbidden.is_empty() && !may_forbid {
        let form = "HW_CPU_X86_VMX,CUSTOM_MAGIC";
        return Err(bad_query(format!("Expected 'required' parameter value of the form: {form}. Got: {text}")));
    }
    let required = required.into_iter().map(|name| BTreeSet::from([name.to_string()])).collect();
    Ok(Traits { required, forbidden })
}

fn any_of(text: &str, choice: &str, may_choose: bool) -> Answer<Traits> {
    const FORM: &str = "in:HW_CPU_X86_VMX,CUSTOM_MAGIC";
    if !may_choose {
        return Err(bad_query(format!("The format '{FORM}' only supported since microversion 1.39. Got: {text}")));
    }
    let names: BTreeSet<String> = choice.split(',').map(|name| name.trim().to_string()).collect();
    if names.contains("") {
        let why = format!("Expected 'required' parameter value of the form: {FORM}. Got an empty trait in: {text}");
        return Err(bad_query(why));
    }
    if names.iter().any(|name| name.starts_with('!')) {
        return Err(bad_query(format!("The format '{FORM}' does not support forbidden traits. Got: {text}")));
    }
    Ok(Traits { required: vec![names], forbidden: BTreeSet::new() })
}

/// The values of `name` in a query; `suffix` is for the words of a refusal.
pub fn member_of(call: &Call<Placement>, name: &str, suffix: &str) -> Answer<Membership> {
    if call.version < v(1, 24) && call.query.all(name).count() > 1 {
        let text = format!("Multiple member_of{suffix} parameters are not supported");
        return Err(Refusal::bad_request(text));
    }
    let mut all = Membership::default();
    for value in call.query.all(name) {
        let (wanted, aggregates) = aggregates(value)?;
        match wanted {
            true => all.any.push(aggregates),
            false if call.version < v(1, 32) => {
                let text =
                    format!("Forbidden member_of{suffix} parameters are not supported in the specified microversion");
                return Err(Refusal::bad_request(text));
            }
            false => all.none.extend(aggregates),
        }
    }
    Ok(all)
}

/// One value: `uuid`, `in:uuid,uuid`, `!uuid` or `!in:uuid,uuid`; and whether they are wanted.
fn aggregates(text: &str) -> Answer<(bool, BTreeSet<String>)> {
    let (wanted, rest) = text.strip_prefix('!').map_or((true, text), |rest| (false, rest));
    let (several, rest) = rest.strip_prefix("in:").map_or((false, rest), |rest| (true, rest));
    if text.contains(',') && !several {
        let why = "Multiple values for 'member_of' must be prefixed with the 'in:' or '!in:' keyword using the valid \
                   microversion.";
        return Err(Refusal::bad_request(format!("{why} Got: {text}")));
    }
    let aggregates: BTreeSet<String> = rest.split(',').map(str::to_string).collect();
    match aggregates.iter().find(|one| !base::id::is_uuid(one)) {
        Some(wrong) => Err(bad_query(format!("Expected 'member_of' parameter to contain valid UUID(s). Got: {wrong}"))),
        None => Ok((wanted, aggregates)),
    }
}

/// A tree, by any of its providers.
pub fn in_tree(query: &Query, name: &str) -> Answer<Option<String>> {
    let Some(value) = query.get(name) else { return Ok(None) };
    match base::id::dashed(value.trim()) {
        Some(uuid) => Ok(Some(uuid)),
        None => Err(bad_query(format!("Expected 'in_tree' parameter to be a format of uuid. Got: {value}"))),
    }
}

/// The first class that nobody knows.
pub async fn unknown_class(db: impl Queries, names: Vec<&str>) -> Result<Option<&str>, db::Error> {
    let custom: Vec<&str> = names.into_iter().filter(|name| !standard::is_class(name)).collect();
    unknown(db, "SELECT name FROM resource_classes", custom).await
}

/// The first trait that nobody knows.
pub async fn unknown_trait(db: impl Queries, traits: &Traits) -> Result<Option<String>, db::Error> {
    let names = traits.required.iter().flatten().chain(&traits.forbidden).map(String::as_str);
    let missing = unknown(db, "SELECT name FROM traits", names.collect()).await?;
    Ok(missing.map(str::to_string))
}

async fn unknown<'a>(mut db: impl Queries, text: &str, names: Vec<&'a str>) -> Result<Option<&'a str>, db::Error> {
    if names.is_empty() {
        return Ok(None);
    }
    let rows = db.rows(sql(text).in_list("name", names.iter().copied())).await?;
    let known: HashSet<String> = rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?;
    Ok(names.into_iter().find(|name| !known.contains(*name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn resources_are_read_or_refused_in_upstreams_words() {
        assert_eq!(resources("VCPU:2,MEMORY_MB:64").unwrap(), [("VCPU".into(), 2), ("MEMORY_MB".into(), 64)]);
        let says = |text: &str| resources(text).unwrap_err().message;
        assert!(says("VCPU").ends_with("?resources=VCPU:2,MEMORY_MB:1024. Got: VCPU."));
        assert!(says(" ").ends_with("Got: empty string."));
        assert_eq!(says("VCPU:x"), "Requested resource VCPU expected positive integer amount. Got: x.");
        assert_eq!(says("VCPU:0"), "Requested resource VCPU requires amount >= 1. Got: 0.");
    }

    #[test]
    fn traits_may_be_forbidden_from_1_22_and_chosen_from_1_39() {
        let read = traits("A,!B,!!C", true, false).unwrap();
        assert_eq!(read, Traits { required: vec![set(&["A"])], forbidden: set(&["B", "C"]) });
        assert_eq!(traits("in:A, B", true, true).unwrap().required, [set(&["A", "B"])]);
        assert!(traits("!A", false, false).is_err());
        assert!(traits("in:A,B", true, false).is_err());
        assert!(traits("A,,B", true, true).unwrap_err().message.ends_with("Got an empty trait in: A,,B"));
    }

    #[test]
    fn aggregates_are_wanted_or_forbidden() {
        let [a, b] = ["11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"];
        assert_eq!(aggregates(a).unwrap(), (true, set(&[a])));
        assert_eq!(aggregates(&format!("!in:{a},{b}")).unwrap(), (false, set(&[a, b])));
        assert!(aggregates(&format!("{a},{b}")).is_err());
        assert!(aggregates("in:x").unwrap_err().message.ends_with("contain valid UUID(s). Got: x"));
    }
}
