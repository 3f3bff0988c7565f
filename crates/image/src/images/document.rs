//! Reads what clients say about an image, key by key, as upstream's schema of an image does.

use api::{Answer, Refusal};
use base::{Json, json};

use super::{Image, ImageFault, Visibility, Whole};
use crate::options::Options;

/// Limit: upstream's, for names, owners, tags and the names of properties.
const TEXT_MAX: usize = 255;
/// Limit: one property; a `LONGTEXT` would take more, a list of images should not.
const PROPERTY_MAX: usize = 65_535;
/// Limit: what upstream's INTEGER columns hold.
const INTEGER_MAX: i64 = 2_147_483_647;

/// Keys that are links; nobody sets them.
const LINKS: &[&str] = &["direct_url", "self", "file", "schema", "stores"];
/// Keys that the service sets.
pub const SERVICE_KEYS: &[&str] =
    &["created_at", "updated_at", "status", "checksum", "os_hash_algo", "os_hash_value", "size", "virtual_size"];
/// Words that were keys once.
pub const RESERVED: &[&str] = &["location", "deleted", "deleted_at"];
const RESERVED_PREFIX: &str = "os_glance_";
/// Keys that a client sets and that are no properties.
pub const CORE: &[&str] = &[
    "name",
    "visibility",
    "min_disk",
    "min_ram",
    "protected",
    "owner",
    "tags",
    "disk_format",
    "container_format",
    "os_hidden",
];

/// A whole image as `POST /images` describes it, on top of the defaults in `image`.
pub fn read_new(body: &Json, options: &Options, image: Image) -> Answer<Whole> {
    let body = match body {
        Json::Object(body) => body,
        Json::Null => return Err(Refusal::bad_request("Body expected in request.")),
        Json::Array(_) => return Err(wrong_type(body, "'object'")),
        _ => return Err(Refusal::bad_request("Unexpected body type. Expected list/dict.")),
    };
    if let Some(name) = LINKS.iter().find(|name| body.contains_key(**name)) {
        return Err(ImageFault::ReadOnly { name: name.to_string() }.into());
    }
    let mut whole =
        Whole { image, properties: Default::default(), tags: Vec::new(), member: None, store: String::new() };
    for (key, value) in body {
        if key == "id" {
            whole.image.id = read_id(value)?;
        } else if SERVICE_KEYS.contains(&key.as_str()) {
            return Err(ImageFault::ReadOnly { name: key.clone() }.into());
        } else {
            set(&mut whole, key, value, options)?;
        }
    }
    Ok(whole)
}

/// Sets one key of an image, core or property, after checking the value.
pub fn set(whole: &mut Whole, key: &str, value: &Json, options: &Options) -> Answer<()> {
    let image = &mut whole.image;
    match key {
        "name" => image.name = text_or_null(value)?,
        "owner" => image.owner = text_or_null(value)?,
        "visibility" => image.visibility = visibility(value)?,
        "protected" => image.protected = flag(value)?,
        "os_hidden" => image.os_hidden = flag(value)?,
        "min_disk" => image.min_disk = integer(key, value)?,
        "min_ram" => image.min_ram = integer(key, value)?,
        "disk_format" => image.disk_format = one_of(value, &options.disk_formats)?,
        "container_format" => image.container_format = one_of(value, &options.container_formats)?,
        "tags" => whole.tags = tags(value)?,
        property => {
            check_property_name(property)?;
            whole.properties.insert(property.to_string(), property_value(value)?);
        }
    }
    Ok(())
}

pub fn check_property_name(name: &str) -> Answer<()> {
    if RESERVED.contains(&name) || name.starts_with(RESERVED_PREFIX) || name == "locations" {
        return Err(ImageFault::Reserved { name: name.into() }.into());
    }
    if name.chars().count() > TEXT_MAX {
        return Err(Refusal::bad_request("Custom property should not be greater than 255 characters."));
    }
    if name.contains('\0') {
        return Err(Refusal::bad_request("A property's name may not contain NUL."));
    }
    Ok(())
}

pub fn check_tag(tag: &str) -> Answer<()> {
    checked_text(tag, TEXT_MAX).map(drop)
}

fn read_id(value: &Json) -> Answer<String> {
    let shape = "'^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$'";
    let Some(text) = value.as_str() else { return Err(wrong_type(value, "'string'")) };
    match base::id::dashed(text) {
        Some(_) if text.len() == 36 => Ok(text.to_string()),
        _ => Err(broken(format!("{} does not match {shape}", python(value)))),
    }
}

fn text_or_null(value: &Json) -> Answer<Option<String>> {
    match value {
        Json::Null => Ok(None),
        Json::String(text) => checked_text(text, TEXT_MAX).map(Some),
        other => Err(wrong_type(other, "'null', 'string'")),
    }
}

fn property_value(value: &Json) -> Answer<String> {
    match value {
        Json::String(text) => checked_text(text, PROPERTY_MAX),
        other => Err(wrong_type(other, "'string'")),
    }
}

fn checked_text(text: &str, most: usize) -> Answer<String> {
    if text.chars().count() > most {
        return Err(broken(format!("{} is too long", python(&json!(text)))));
    }
    if text.contains('\0') {
        return Err(Refusal::bad_request("Text may not contain NUL."));
    }
    Ok(text.to_string())
}

fn visibility(value: &Json) -> Answer<Visibility> {
    let known = value.as_str().and_then(Visibility::named);
    known.ok_or_else(|| broken(format!("{} is not one of ['community', 'public', 'private', 'shared']", python(value))))
}

fn flag(value: &Json) -> Answer<bool> {
    value.as_bool().ok_or_else(|| wrong_type(value, "'boolean'"))
}

fn integer(name: &str, value: &Json) -> Answer<i64> {
    // Upstream: 1.0 is an integer too.
    let whole =
        value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 9e15).map(|number| number as i64);
    let Some(number) = value.as_i64().or(whole) else { return Err(wrong_type(value, "'integer'")) };
    if number < 0 {
        return Err(ImageFault::Negative { name: name.into(), value: number }.into());
    }
    if number > INTEGER_MAX {
        return Err(broken(format!("{number} is greater than the maximum of {INTEGER_MAX}")));
    }
    Ok(number)
}

fn one_of(value: &Json, known: &[String]) -> Answer<Option<String>> {
    match value {
        Json::Null => Ok(None),
        Json::String(text) if known.contains(text) => Ok(Some(text.clone())),
        Json::String(_) => {
            let words: Vec<String> = known.iter().map(|word| format!("'{word}'")).collect();
            Err(broken(format!("{} is not one of [None, {}]", python(value), words.join(", "))))
        }
        other => Err(wrong_type(other, "'null', 'string'")),
    }
}

/// A set: order and repetition mean nothing.
fn tags(value: &Json) -> Answer<Vec<String>> {
    let Some(items) = value.as_array() else { return Err(wrong_type(value, "'array'")) };
    let text = |item: &Json| match item {
        Json::String(text) => checked_text(text, TEXT_MAX),
        other => Err(wrong_type(other, "'string'")),
    };
    let mut tags: Vec<String> = items.iter().map(text).collect::<Answer<_>>()?;
    tags.sort();
    tags.dedup();
    Ok(tags)
}

fn wrong_type(value: &Json, wanted: &str) -> Refusal {
    broken(format!("{} is not of type {wanted}", python(value)))
}

fn broken(why: String) -> Refusal {
    Refusal::bad_request(format!("Provided object does not match schema 'image': {why}"))
}

/// Upstream: refusals show a value as Python writes it. Cut short, so that a huge body is not sent back.
pub fn python(value: &Json) -> String {
    let text = match value {
        Json::Null => "None".to_string(),
        Json::Bool(true) => "True".to_string(),
        Json::Bool(false) => "False".to_string(),
        Json::String(text) => format!("'{text}'"),
        other => other.to_string().replace('"', "'"),
    };
    text.chars().take(400).collect()
}
