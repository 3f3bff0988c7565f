//! What the parts of a port must look like.

use std::collections::HashSet;

use base::{Json, json};

use crate::engine::rule;
use crate::{ip, python};

/// Limit: addresses of one port.
const FIXED_IPS: usize = 100;

pub fn mac(value: Json) -> Result<Json, String> {
    // Null asks for another address.
    if value.is_null() { Ok(value) } else { rule::mac(&value) }
}

pub fn fixed_ips(value: Json) -> Result<Json, String> {
    if value.is_null() {
        return Ok(json!([]));
    }
    let Some(items) = value.as_array().filter(|items| items.len() <= FIXED_IPS) else {
        return Err(format!("Invalid data format for fixed IP: '{}'", python::plain(&value)));
    };
    let mut seen = HashSet::new();
    let mut list = Vec::new();
    for item in items {
        let Some(map) = item.as_object() else {
            return Err(format!("Invalid data format for fixed IP: '{}'", python::plain(item)));
        };
        let mut one = serde_json::Map::new();
        if let Some(address) = map.get("ip_address") {
            let usual = rule::ip(address)?;
            if !seen.insert(usual.to_string()) {
                return Err(format!("Duplicate IP address '{}'", python::plain(address)));
            }
            one.insert("ip_address".into(), usual);
        }
        if let Some(subnet) = map.get("subnet_id") {
            one.insert("subnet_id".into(), rule::uuid(subnet)?);
        }
        list.push(Json::Object(one));
    }
    Ok(Json::Array(list))
}

pub fn groups(value: Json) -> Result<Json, String> {
    if value.is_null() {
        return Ok(json!([]));
    }
    let Some(items) = value.as_array() else {
        return Err(format!("'{}' is not a list", python::plain(&value)));
    };
    let mut seen = HashSet::new();
    for item in items {
        if !item.as_str().is_some_and(base::id::is_uuid) {
            return Err(format!("'{}' is not an integer or uuid", python::plain(item)));
        }
        seen.insert(item.to_string());
    }
    let mut groups: Vec<&str> = items.iter().filter_map(Json::as_str).collect();
    groups.sort_unstable();
    groups.dedup();
    Ok(json!(groups))
}

pub fn pairs(value: Json) -> Result<Json, String> {
    if value.is_null() {
        return Ok(json!([]));
    }
    let Some(items) = value.as_array() else {
        return Err("Allowed address pairs must be a list.".into());
    };
    let mut seen = HashSet::new();
    let mut list = Vec::new();
    for item in items {
        let Some(map) = item.as_object() else {
            return Err(format!("'{}' is not a dictionary", python::plain(item)));
        };
        if let Some(key) = map.keys().find(|key| !["ip_address", "mac_address"].contains(&key.as_str())) {
            return Err(format!("Unrecognized attribute(s) '{key}'"));
        }
        let address = map.get("ip_address").ok_or("AllowedAddressPair must contain ip_address")?;
        let Some(net) = address.as_str().and_then(ip::net_or_address) else {
            return Err(format!(
                "'{0}' is neither a valid IP address, nor is it a valid IP subnet",
                python::plain(address)
            ));
        };
        if net.addr().is_multicast() {
            return Err(format!("IP {} is a multicast address, which is not supported.", python::plain(address)));
        }
        let mut pair = json!({"ip_address": address});
        if let Some(own) = map.get("mac_address").filter(|value| !value.is_null()) {
            pair["mac_address"] = rule::mac(own)?;
        }
        if !seen.insert(pair.to_string()) {
            return Err(format!("Request contains duplicate address pair: {}", python::quoted(item)));
        }
        list.push(pair);
    }
    Ok(Json::Array(list))
}

pub fn dhcp_options(value: Json) -> Result<Json, String> {
    if value.is_null() {
        return Ok(json!([]));
    }
    let Some(items) = value.as_array() else {
        return Err(format!("'{}' is not a list", python::plain(&value)));
    };
    let mut list = Vec::new();
    for item in items {
        let name = item["opt_name"].as_str().filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| format!("No valid key specs matched for: {}", python::quoted(item)))?;
        let good = |c: char| c.is_ascii_alphanumeric() || "-_:,.[]".contains(c);
        if !name.chars().all(good) || item["opt_value"].as_str().is_some_and(|text| text.contains(['\n', '\r', '\0'])) {
            return Err(format!("No valid key specs matched for: {}", python::quoted(item)));
        }
        let version =
            item.get("ip_version").map(|version| rule::integer(version, 4, 6)).transpose()?.unwrap_or(json!(4));
        list.push(json!({"opt_name": name, "opt_value": item["opt_value"], "ip_version": version}));
    }
    Ok(Json::Array(list))
}

/// A name without a domain, as hosts have it.
pub fn dns_name(value: Json) -> Result<Json, String> {
    let text = rule::text(value, 63)?;
    let name = text.as_str().unwrap_or_default().to_ascii_lowercase();
    let good = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    match good && !name.starts_with('-') && !name.ends_with('-') {
        true => Ok(json!(name)),
        false => Err(format!("'{name}' not a valid PQDN or FQDN. Reason: it is not a valid host name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_ports_get_their_usual_form() {
        let fixed = fixed_ips(json!([{"ip_address": "fd00:0::5"}, {"subnet_id": base::id::uuid()}])).unwrap();
        assert_eq!(fixed[0]["ip_address"], "fd00::5");
        assert_eq!(
            pairs(json!([{"ip_address": "10.0.0.0/24", "mac_address": null}])).unwrap(),
            json!([{"ip_address": "10.0.0.0/24"}])
        );
        assert_eq!(dns_name(json!("Web-1")), Ok(json!("web-1")));
    }

    #[test]
    fn parts_that_make_no_sense_are_refused() {
        assert!(fixed_ips(json!([{"ip_address": "1.2.3.4"}, {"ip_address": "1.2.3.4"}])).is_err());
        assert!(pairs(json!([{"mac_address": "fa:16:3e:00:00:01"}])).is_err());
        assert!(groups(json!(["web"])).is_err());
        assert!(dhcp_options(json!([{"opt_name": "a\nb", "opt_value": "x"}])).is_err());
        assert!(dns_name(json!("-x")).is_err());
    }
}
