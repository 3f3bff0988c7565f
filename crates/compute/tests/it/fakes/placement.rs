//! Providers, inventories and allocations without aggregates, trees or generations of consumers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use api::message::BoxFuture;
use api::{Endpoint, Json, Query, Reply, Request, json};

use super::{body, missing};

const KNOWN_TRAITS: &[&str] = &["COMPUTE_NODE", "HW_CPU_X86_AVX2"];
const KNOWN_CLASSES: &[&str] = &["VCPU", "MEMORY_MB", "DISK_GB", "VGPU"];

#[derive(Default)]
pub struct FakePlacement(Mutex<Inside>);

#[derive(Default)]
struct Inside {
    providers: BTreeMap<String, Provider>,
    /// Consumer, then provider, then amounts.
    allocations: BTreeMap<String, Json>,
    refuse_claims: u32,
}

struct Provider {
    name: String,
    generation: i64,
    inventories: Json,
    traits: Json,
    aggregates: Json,
}

impl FakePlacement {
    pub fn new() -> Arc<FakePlacement> {
        Arc::default()
    }

    /// The next claims are lost to somebody else.
    pub fn refuse_claims(&self, times: u32) {
        self.inside().refuse_claims = times;
    }

    /// Who has claims.
    pub fn claims(&self) -> Vec<String> {
        self.inside().allocations.keys().map(|consumer| format!("a claim of {consumer}")).collect()
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap()
    }
}

impl Inside {
    fn used(&self, provider: &str, class: &str) -> i64 {
        let held = self.allocations.values().map(|held| held[provider]["resources"][class].as_i64().unwrap_or(0));
        held.sum()
    }

    fn room(&self, provider: &str, class: &str) -> i64 {
        let held = &self.providers[provider].inventories[class];
        let number = |key: &str| held[key].as_f64().unwrap_or(0.0);
        ((number("total") - number("reserved")) * number("allocation_ratio")) as i64 - self.used(provider, class)
    }

    fn answer(&mut self, method: &str, path: &str, query: &Query, sent: Json) -> Reply {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        match (method, parts.as_slice()) {
            ("POST", ["resource_providers"]) => {
                let provider = Provider {
                    name: sent["name"].as_str().unwrap().to_string(),
                    generation: 0,
                    inventories: json!({}),
                    traits: json!([]),
                    aggregates: json!([]),
                };
                self.providers.insert(sent["uuid"].as_str().unwrap().to_string(), provider);
                Reply::json(200, &json!({}))
            }
            ("GET", ["allocation_candidates"]) => self.candidates(query),
            ("GET", ["traits", name]) if KNOWN_TRAITS.contains(name) => Reply::new(204),
            ("GET", ["resource_classes", name]) if KNOWN_CLASSES.contains(name) => {
                Reply::json(200, &json!({"name": name}))
            }
            ("GET", ["traits" | "resource_classes", name]) => missing(name),
            ("DELETE", ["resource_providers", id]) => match self.providers.remove(*id) {
                Some(_) => Reply::new(204),
                None => missing("The provider"),
            },
            (_, ["resource_providers", id, rest @ ..]) => self.provider(method, id, rest, sent),
            (_, ["allocations", consumer]) => self.allocation(method, consumer, sent),
            _ => panic!("the fake placement does not know {method} {path}"),
        }
    }

    fn provider(&mut self, method: &str, id: &str, rest: &[&str], sent: Json) -> Reply {
        let Some(provider) = self.providers.get_mut(id) else { return missing("The provider") };
        if method == "PUT" {
            provider.generation += 1;
        }
        match (method, rest) {
            ("GET", []) => {
                let body = json!({"uuid": id, "name": provider.name, "generation": provider.generation});
                return Reply::json(200, &body);
            }
            ("PUT", ["inventories"]) => provider.inventories = sent["inventories"].clone(),
            ("PUT", ["traits"]) => provider.traits = sent["traits"].clone(),
            ("PUT", ["aggregates"]) => provider.aggregates = sent["aggregates"].clone(),
            _ => {}
        }
        let classes: Vec<String> = provider.inventories.as_object().unwrap().keys().cloned().collect();
        let mut body = json!({
            "resource_provider_generation": provider.generation, "inventories": provider.inventories,
            "traits": provider.traits, "aggregates": provider.aggregates, "usages": {},
        });
        for class in classes {
            body["usages"][&class] = json!(self.used(id, &class));
        }
        Reply::json(200, &body)
    }

    fn candidates(&self, query: &Query) -> Reply {
        let wanted: Vec<(&str, i64)> = query
            .get("resources")
            .unwrap()
            .split(',')
            .map(|part| part.split_once(':').map(|(class, amount)| (class, amount.parse().unwrap())).unwrap())
            .collect();
        let traits: Vec<&str> = query.all("required").flat_map(|text| text.split(',')).collect();
        let (mut requests, mut summaries) = (Vec::new(), json!({}));
        for (id, provider) in &self.providers {
            let fits = |(class, amount): &(&str, i64)| {
                self.room(id, class) >= *amount && provider.inventories[class]["max_unit"].as_i64() >= Some(*amount)
            };
            let has = |name: &str| provider.traits.as_array().unwrap().iter().any(|held| held == name);
            let suits = |name: &&str| name.strip_prefix('!').map_or_else(|| has(name), |forbidden| !has(forbidden));
            if !wanted.iter().all(fits) || !traits.iter().all(suits) {
                continue;
            }
            let mut resources = json!({});
            for class in provider.inventories.as_object().unwrap().keys() {
                let used = self.used(id, class);
                resources[class] = json!({"capacity": self.room(id, class) + used, "used": used});
            }
            summaries[id] = json!({"resources": resources, "traits": provider.traits, "root_provider_uuid": id});
            let amounts: Json = wanted.iter().map(|(class, amount)| (class.to_string(), json!(amount))).collect();
            requests.push(json!({"allocations": {id: {"resources": amounts}}}));
        }
        Reply::json(200, &json!({"allocation_requests": requests, "provider_summaries": summaries}))
    }

    fn allocation(&mut self, method: &str, consumer: &str, sent: Json) -> Reply {
        match method {
            "GET" => {
                let held = self.allocations.get(consumer).cloned().unwrap_or_else(|| json!({}));
                Reply::json(200, &json!({"allocations": held}))
            }
            "DELETE" => match self.allocations.remove(consumer) {
                Some(_) => Reply::new(204),
                None => missing("The consumer"),
            },
            _ if self.refuse_claims > 0 => {
                self.refuse_claims -= 1;
                Reply::json(409, &json!({"errors": [{"detail": "somebody else was faster"}]}))
            }
            _ => {
                let wanted = sent["allocations"].as_object().unwrap();
                for (provider, wanted) in wanted {
                    for (class, amount) in wanted["resources"].as_object().unwrap() {
                        if self.room(provider, class) < amount.as_i64().unwrap() {
                            return Reply::json(409, &json!({"errors": [{"detail": "no room"}]}));
                        }
                    }
                }
                self.allocations.insert(consumer.to_string(), sent["allocations"].clone());
                Reply::new(204)
            }
        }
    }
}

impl Endpoint for FakePlacement {
    fn call(&self, request: Request) -> BoxFuture<'_, Reply> {
        Box::pin(async move {
            let (method, path) = (request.method.to_string(), request.path.clone());
            let query = Query::parse(&request.query);
            let sent = body(request).await;
            self.inside().answer(&method, &path, &query, sent)
        })
    }
}
