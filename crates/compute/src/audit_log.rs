//! The log of usage audits. This cloud runs none, as upstream does unless it is told to; the log says which hosts have
//! not run one.

use api::{Answer, Call, Document, Json, NoInput, Operation, Path, Refusal, get, json, v};
use base::Time;

use crate::{Compute, hosts, query};

pub fn operations() -> Vec<Operation<Compute>> {
    vec![
        get("/os-instance_usage_audit_log", list).rule("os_compute_api:os-instance-usage-audit-log:list"),
        get("/os-instance_usage_audit_log/{before}", show).rule("os_compute_api:os-instance-usage-audit-log:show"),
    ]
}

async fn list(call: Call<Compute>, _: NoInput) -> Answer<Document> {
    let permitted = call.allow()?;
    query::strict(&call, v(2, 102), &[])?;
    let log = log(&call, base::clock::now()).await?;
    Ok(Document::new(permitted, json!({"instance_usage_audit_logs": log})))
}

async fn show(call: Call<Compute>, Path(before): Path<String>) -> Answer<Document> {
    let permitted = call.allow()?;
    query::strict(&call, v(2, 102), &[])?;
    let time = Time::parse(&before).filter(|_| before.len() >= 19 && before.contains(' '));
    let time = time.ok_or_else(|| Refusal::bad_request(format!("Invalid timestamp for date {before}")))?;
    let log = log(&call, time).await?;
    Ok(Document::new(permitted, json!({"instance_usage_audit_log": log})))
}

async fn log(call: &Call<Compute>, before: Time) -> Answer<Json> {
    let hosts: Vec<String> = hosts::all(&call.db).await?.into_iter().map(|host| host.name).collect();
    let (beginning, ending) = last_month(before);
    let done = if hosts.is_empty() { "ALL".to_string() } else { format!("0 of {}", hosts.len()) };
    Ok(json!({
        "period_beginning": beginning,
        "period_ending": ending,
        "num_hosts": hosts.len(),
        "num_hosts_done": 0,
        "num_hosts_running": 0,
        "num_hosts_not_run": hosts.len(),
        "hosts_not_run": hosts,
        "total_instances": 0,
        "total_errors": 0,
        "overall_status": format!("{done} hosts done. 0 errors."),
        "log": {},
    }))
}

/// The last whole month before `time`. Upstream's `instance_usage_audit_period` is a month.
fn last_month(time: Time) -> (String, String) {
    let text = time.iso_z();
    let number = |range: std::ops::Range<usize>| text.get(range).and_then(|part| part.parse::<u32>().ok()).unwrap_or(1);
    let (year, month) = (number(0..4), number(5..7));
    let begun = if month == 1 { (year - 1, 12) } else { (year, month - 1) };
    let first = |(year, month): (u32, u32)| format!("{year:04}-{month:02}-01 00:00:00");
    (first(begun), first((year, month)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_month_ends_where_this_one_begins() {
        let time = |text: &str| Time::parse(text).unwrap();
        let months = |text: &str| last_month(time(text));
        assert_eq!(months("2026-11-21 06:00:00"), ("2026-10-01 00:00:00".into(), "2026-11-01 00:00:00".into()));
        assert_eq!(months("2026-01-01 00:00:01"), ("2025-12-01 00:00:00".into(), "2026-01-01 00:00:00".into()));
    }
}
