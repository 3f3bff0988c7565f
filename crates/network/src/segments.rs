//! Segments: what carries a network, and the pools of numbers they are taken from.

use api::{Caller, Operation, get};
use base::{Json, json};
use db::{Queries, Select, sql};
use rand::Rng;

use crate::Network;
use crate::engine::attribute::{CREATED, ID, REVISION, UPDATED, attr};
use crate::engine::rule::Rule;
use crate::engine::{self, Attributes, Kind, Resource, entity, stamp};
use crate::fault::{Fault, invalid};
use crate::stop::Stop;
use crate::work::Work;

pub const KIND: Kind = Kind {
    one: "segment",
    many: "segments",
    attributes: &[
        ID,
        attr("network_id", Rule::Uuid).text(),
        attr("name", Rule::TextOrNull(255)).text(),
        attr("description", Rule::TextOrNull(255)).text(),
        attr("physical_network", Rule::TextOrNull(64)).text(),
        attr("network_type", Rule::Text(32)).text(),
        attr("segmentation_id", Rule::Any).number(),
        CREATED,
        UPDATED,
        REVISION,
    ],
};

entity! {
    pub struct Segment in "segments" {
        network_id: String,
        name: Option<String>,
        description: Option<String>,
        network_type: String,
        physical_network: Option<String>,
        segmentation_id: Option<i64>,
        claim: String,
    }
}

pub struct Segments;

pub fn operations() -> Vec<Operation<Network>> {
    vec![
        get("/segments", engine::list::<Segments>).rule("get_segment"),
        get("/segments/{segment_id}", engine::show::<Segments>).rule("get_segment"),
    ]
}

impl Resource for Segments {
    const KIND: &'static Kind = &KIND;
    type Row = Segment;

    fn not_found(id: &str) -> Fault {
        Fault::SegmentNotFound { id: id.to_string() }
    }

    fn scope(rows: Select<Segment>, caller: &Caller) -> Select<Segment> {
        engine::own(rows, caller)
    }

    async fn items<Q: Queries>(_: Q, rows: Vec<Segment>, _: &Caller) -> Result<Vec<Json>, db::Error> {
        let item = |row: Segment| {
            json!({
                "id": row.id,
                "network_id": row.network_id,
                "name": row.name,
                "description": row.description,
                "physical_network": row.physical_network,
                "network_type": row.network_type,
                "segmentation_id": row.segmentation_id,
                "created_at": stamp(row.created_at),
                "updated_at": stamp(row.updated_at),
                "revision_number": row.revision_number,
            })
        };
        Ok(rows.into_iter().map(item).collect())
    }

    async fn create(_: &mut Work<'_>, _: &Attributes) -> Result<String, Stop> {
        Err(several().into())
    }

    async fn update(_: &mut Work<'_>, _: Segment, _: &Attributes) -> Result<(), Stop> {
        Err(several().into())
    }

    async fn remove(_: &mut Work<'_>, _: Segment) -> Result<(), Stop> {
        Err(several().into())
    }
}

/// Later: networks of several segments.
fn several() -> Fault {
    invalid("A network has exactly one segment")
}

/// What a client with the right to it wants a network to be carried by.
#[derive(Debug, Clone, PartialEq)]
pub struct Provider {
    pub network_type: Option<String>,
    pub physical_network: Option<String>,
    pub segmentation_id: Option<i64>,
}

impl Provider {
    pub fn read(new: &Attributes) -> Provider {
        Provider {
            network_type: new.maybe("provider:network_type"),
            physical_network: new.maybe("provider:physical_network"),
            segmentation_id: new.number("provider:segmentation_id"),
        }
    }

    fn is_empty(&self) -> bool {
        self.network_type.is_none() && self.physical_network.is_none() && self.segmentation_id.is_none()
    }
}

/// Limit: random tries for a number before the gaps are looked for.
const TRIES: usize = 8;

/// Gives a new network its segment.
pub async fn allocate(work: &mut Work<'_>, network: &str, wanted: Provider, external: bool) -> Result<Segment, Stop> {
    let settings = &work.service.settings;
    if !wanted.is_empty() {
        let Some(kind) = wanted.network_type.clone() else {
            return Err(invalid("network_type required").into());
        };
        if !settings.types.contains(&kind) {
            return Err(invalid(format!("network_type value '{kind}' not supported")).into());
        }
        return chosen(work, network, &kind, wanted).await;
    }
    let kinds = match &settings.external_type {
        Some(kind) if external => vec![kind.clone()],
        _ => settings.project_types.clone(),
    };
    for kind in kinds {
        let segment = match kind.as_str() {
            "vxlan" => from_ranges(work, network, "vxlan", None, &settings.vni_ranges.clone()).await?,
            "vlan" => vlan(work, network, None).await?,
            "local" => Some(local(work, network).await?),
            "flat" => flat(work, network).await?,
            _ => None,
        };
        if let Some(segment) = segment {
            return Ok(segment);
        }
    }
    Err(Fault::NoNetworkAvailable {}.into())
}

async fn chosen(work: &mut Work<'_>, network: &str, kind: &str, wanted: Provider) -> Result<Segment, Stop> {
    let Provider { physical_network: physical, segmentation_id: number, .. } = wanted;
    let settings = &work.service.settings;
    match (kind, physical, number) {
        ("local", None, None) => local(work, network).await,
        ("local", Some(_), _) => Err(invalid("physical_network prohibited for local provider network").into()),
        ("local", None, Some(_)) => Err(invalid("segmentation_id prohibited for local provider network").into()),
        ("flat", None, _) => Err(invalid("physical_network required for flat provider network").into()),
        ("flat", Some(_), Some(_)) => Err(invalid("segmentation_id prohibited for flat provider network").into()),
        ("flat", Some(physical), None) => {
            if !settings.flat_networks.contains("*") && !settings.flat_networks.contains(&physical) {
                return Err(invalid(format!("physical_network '{physical}' unknown for flat provider network")).into());
            }
            let made = insert(work, network, "flat", Some(physical.clone()), None).await?;
            made.ok_or_else(|| Fault::FlatNetworkInUse { physical_network: physical }.into())
        }
        ("vxlan", Some(_), _) => Err(invalid("provider:physical_network specified for vxlan network").into()),
        ("vxlan", None, None) => {
            let made = from_ranges(work, network, "vxlan", None, &settings.vni_ranges.clone()).await?;
            made.ok_or_else(|| Fault::NoNetworkAvailable {}.into())
        }
        ("vxlan", None, Some(number)) => {
            if !(1..1 << 24).contains(&number) {
                return Err(invalid(format!("segmentation_id out of range (1 through {})", (1 << 24) - 1)).into());
            }
            let made = insert(work, network, "vxlan", None, Some(number)).await?;
            made.ok_or_else(|| Fault::TunnelIdInUse { tunnel_id: number }.into())
        }
        (_, None, Some(_)) => {
            Err(invalid("segmentation_id requires physical_network for VLAN provider network").into())
        }
        (_, physical, None) => {
            let made = vlan(work, network, physical).await?;
            made.ok_or_else(|| Fault::NoNetworkAvailable {}.into())
        }
        (_, Some(physical), Some(number)) => {
            if !settings.vlan_ranges.is_empty() && !settings.vlan_ranges.contains_key(&physical) {
                let text = format!("physical_network '{physical}' unknown for VLAN provider network");
                return Err(invalid(text).into());
            }
            if !(1..=4094).contains(&number) {
                return Err(invalid("segmentation_id out of range (1 through 4094)").into());
            }
            let made = insert(work, network, "vlan", Some(physical.clone()), Some(number)).await?;
            made.ok_or_else(|| Fault::VlanIdInUse { vlan_id: number, physical_network: physical }.into())
        }
    }
}

async fn local(work: &mut Work<'_>, network: &str) -> Result<Segment, Stop> {
    let made = insert(work, network, "local", None, None).await?;
    made.ok_or_else(|| Fault::NoNetworkAvailable {}.into())
}

async fn flat(work: &mut Work<'_>, network: &str) -> Result<Option<Segment>, Stop> {
    for physical in work.service.settings.flat_networks.clone() {
        if physical != "*"
            && let Some(segment) = insert(work, network, "flat", Some(physical), None).await?
        {
            return Ok(Some(segment));
        }
    }
    Ok(None)
}

async fn vlan(work: &mut Work<'_>, network: &str, wanted: Option<String>) -> Result<Option<Segment>, Stop> {
    for (physical, ranges) in work.service.settings.vlan_ranges.clone() {
        if wanted.as_ref().is_some_and(|wanted| *wanted != physical) {
            continue;
        }
        if let Some(segment) = from_ranges(work, network, "vlan", Some(physical), &ranges).await? {
            return Ok(Some(segment));
        }
    }
    Ok(None)
}

/// Takes a free number: by chance first, and when that fails the first gap.
async fn from_ranges(
    work: &mut Work<'_>,
    network: &str,
    kind: &str,
    physical: Option<String>,
    ranges: &[(i64, i64)],
) -> Result<Option<Segment>, Stop> {
    let size: i64 = ranges.iter().map(|(first, last)| (last - first + 1).max(0)).sum();
    for _ in 0..TRIES.min(size as usize) {
        let mut place = rand::rng().random_range(0..size);
        let number = ranges.iter().find_map(|(first, last)| {
            let length = (last - first + 1).max(0);
            if place < length {
                Some(first + place)
            } else {
                place -= length;
                None
            }
        });
        if let Some(segment) = insert(work, network, kind, physical.clone(), number).await? {
            return Ok(Some(segment));
        }
    }
    let used =
        sql("SELECT segmentation_id FROM segments WHERE network_type = ? AND segmentation_id IS NOT NULL").bind(kind);
    let used = match &physical {
        Some(physical) => used.and("physical_network = ?").bind(physical),
        None => used,
    };
    let rows = work.tx.rows(used).await?;
    let used: std::collections::HashSet<i64> = rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?;
    let free = ranges.iter().flat_map(|(first, last)| *first..=*last).filter(|number| !used.contains(number));
    for number in free.take(TRIES) {
        if let Some(segment) = insert(work, network, kind, physical.clone(), Some(number)).await? {
            return Ok(Some(segment));
        }
    }
    Ok(None)
}

/// `None` when somebody else has it.
async fn insert(
    work: &mut Work<'_>,
    network: &str,
    kind: &str,
    physical: Option<String>,
    number: Option<i64>,
) -> Result<Option<Segment>, Stop> {
    let claim = match (kind, &physical, number) {
        ("local", ..) => format!("local:{network}"),
        (_, Some(physical), Some(number)) => format!("{kind}:{physical}:{number}"),
        (_, Some(physical), None) => format!("{kind}:{physical}"),
        (_, None, number) => format!("{kind}:{}", number.unwrap_or_default()),
    };
    let segment = Segment {
        id: base::id::uuid(),
        project_id: String::new(),
        network_id: network.to_string(),
        name: None,
        description: None,
        network_type: kind.to_string(),
        physical_network: physical,
        segmentation_id: number,
        claim,
        created_at: work.now,
        updated_at: work.now,
        revision_number: 0,
    };
    Ok(work.tx.insert_new(&segment).await?.then_some(segment))
}
