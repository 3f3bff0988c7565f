//! What is inside a token: keystone's eleven layouts, as MessagePack arrays which begin with the layout's number.
//!
//! Ids that are UUIDs are packed as 16 bytes; `[true, bytes]` and `[false, text]` tell both kinds apart.

use base::Time;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rmp::Marker;
use rmp::decode::{self, RmpRead};
use rmp::encode;

/// Limit: elements of one array; the longest is the list of groups of a federated user.
const MAX_ITEMS: usize = 256;
/// Limit: one text in a payload; ids have at most 64 characters.
const MAX_TEXT: usize = 255;
/// Limit: arrays within arrays: payload, groups, group.
const MAX_DEPTH: usize = 3;

/// Authentication methods; the position is the bit in the payload.
pub const METHODS: &[&str] =
    &["external", "password", "token", "oauth1", "mapped", "application_credential", "ec2credential"];

/// What a token is good for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Scope {
    #[default]
    Unscoped,
    Domain(String),
    Project(String),
    System,
}

/// How the bearer came by the token, where that is part of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Grant {
    #[default]
    Plain,
    Trust(String),
    Federation {
        groups: Vec<String>,
        provider: String,
        protocol: String,
    },
    AccessToken(String),
    ApplicationCredential(String),
    /// OAuth2 client credentials over mutual TLS: the thumbprint of the certificate, and the domain beside the project.
    Certificate {
        domain: String,
        thumbprint: String,
    },
}

/// The content of a token.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Token {
    pub user_id: String,
    /// Bits of [`METHODS`].
    pub methods: u32,
    pub scope: Scope,
    pub grant: Grant,
    pub expires: Time,
    /// Kept by the seal.
    pub issued: Time,
    /// This token's own id, then that of the chain's first token.
    pub audit_ids: Vec<[u8; 16]>,
}

impl Token {
    /// Names of the methods.
    pub fn method_names(&self) -> Vec<&'static str> {
        METHODS.iter().enumerate().filter(|(bit, _)| self.methods & (1 << bit) != 0).map(|(_, name)| *name).collect()
    }

    /// The audit ids as they are shown: 22 characters.
    pub fn audit_texts(&self) -> Vec<String> {
        self.audit_ids.iter().map(|id| URL_SAFE_NO_PAD.encode(id)).collect()
    }

    /// The payload. A combination that no layout can hold falls back to the nearest one with less rights.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Packer(Vec::new());
        match (&self.grant, &self.scope) {
            (Grant::Trust(trust), Scope::Project(project)) => {
                out.begin(3, 7, self).pair(project).tail(self).uuid(trust);
            }
            (Grant::Federation { groups, provider, protocol }, scope) => {
                let (version, id) = match scope {
                    Scope::Project(id) => (5, Some(id)),
                    Scope::Domain(id) => (6, Some(id)),
                    _ => (4, None),
                };
                out.begin(version, 8 + u32::from(id.is_some()), self);
                if let Some(id) = id {
                    out.pair(id);
                }
                out.groups(groups).pair(provider).text(protocol).tail(self);
            }
            (Grant::AccessToken(access), Scope::Project(project)) => {
                out.begin(7, 7, self).pair(project).pair(access).tail(self);
            }
            (Grant::ApplicationCredential(id), Scope::Project(project)) => {
                out.begin(9, 7, self).pair(project).tail(self).pair(id);
            }
            (Grant::Certificate { domain, thumbprint }, Scope::Project(project)) => {
                out.begin(10, 8, self).pair(project).pair(domain).tail(self).plain_pair(thumbprint);
            }
            (_, Scope::Project(project)) => {
                out.begin(2, 6, self).pair(project).tail(self);
            }
            (_, Scope::Domain(domain)) => {
                out.begin(1, 6, self).uuid(domain).tail(self);
            }
            (_, Scope::System) => {
                out.begin(8, 6, self).text("all").tail(self);
            }
            (_, Scope::Unscoped) => {
                out.begin(0, 5, self).tail(self);
            }
        }
        out.0
    }

    /// Reads a payload; `None` when it has no layout that we know.
    pub fn decode(payload: &[u8]) -> Option<Token> {
        let mut rest = payload;
        let Item::Array(items) = Item::read(&mut rest, 0)? else { return None };
        if !rest.is_empty() {
            return None;
        }
        let mut items = items.into_iter();
        let mut next = || items.next();
        let version = next()?.number()?;
        let mut token = Token { user_id: next()?.id()?, methods: next()?.number()?, ..Token::default() };
        match version {
            0 => {}
            1 => token.scope = Scope::Domain(next()?.uuid()?),
            2 | 3 | 7 | 9 | 10 => token.scope = Scope::Project(next()?.id()?),
            4 => {}
            5 => token.scope = Scope::Project(next()?.id()?),
            6 => token.scope = Scope::Domain(next()?.id()?),
            8 => token.scope = next()?.uuid().filter(|word| word == "all").map(|_| Scope::System)?,
            _ => return None,
        }
        match version {
            4..=6 => {
                let groups = next()?.array()?.into_iter().map(Item::id).collect::<Option<_>>()?;
                token.grant = Grant::Federation { groups, provider: next()?.id()?, protocol: next()?.uuid()? };
            }
            7 => token.grant = Grant::AccessToken(next()?.id()?),
            10 => token.grant = Grant::Certificate { domain: next()?.id()?, thumbprint: String::new() },
            _ => {}
        }
        token.expires = next()?.time()?;
        token.audit_ids = next()?.array()?.into_iter().map(Item::audit_id).collect::<Option<_>>()?;
        match (version, &mut token.grant) {
            (3, grant) => *grant = Grant::Trust(next()?.uuid()?),
            (9, grant) => *grant = Grant::ApplicationCredential(next()?.id()?),
            (10, Grant::Certificate { thumbprint, .. }) => *thumbprint = next()?.id()?,
            _ => {}
        }
        if next().is_some() { None } else { Some(token) }
    }
}

/// The 16 bytes of an id that is 32 lower-case hex digits, which come back the same.
fn uuid_bytes(id: &str) -> Option<[u8; 16]> {
    let plain = id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let number = if plain { u128::from_str_radix(id, 16).ok()? } else { return None };
    Some(number.to_be_bytes())
}

/// Writes as Python's msgpack does: the shortest form of everything, bytes as `bin`.
struct Packer(Vec<u8>);

/// Why writing cannot fail.
const MEMORY: &str = "writing to memory cannot fail";

impl Packer {
    fn begin(&mut self, version: u64, items: u32, token: &Token) -> &mut Packer {
        encode::write_array_len(&mut self.0, items).expect(MEMORY);
        self.number(version).pair(&token.user_id).number(u64::from(token.methods))
    }

    fn tail(&mut self, token: &Token) -> &mut Packer {
        encode::write_f64(&mut self.0, token.expires.0 as f64 / 1e6).expect(MEMORY);
        encode::write_array_len(&mut self.0, token.audit_ids.len() as u32).expect(MEMORY);
        token.audit_ids.iter().for_each(|id| {
            self.bytes(id);
        });
        self
    }

    fn number(&mut self, number: u64) -> &mut Packer {
        encode::write_uint(&mut self.0, number).expect(MEMORY);
        self
    }

    fn text(&mut self, text: &str) -> &mut Packer {
        encode::write_str(&mut self.0, text).expect(MEMORY);
        self
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Packer {
        encode::write_bin(&mut self.0, bytes).expect(MEMORY);
        self
    }

    /// 16 bytes, or the text itself.
    fn uuid(&mut self, id: &str) -> &mut Packer {
        match uuid_bytes(id) {
            Some(bytes) => self.bytes(&bytes),
            None => self.text(id),
        }
    }

    /// `[is_uuid, value]`.
    fn pair(&mut self, id: &str) -> &mut Packer {
        encode::write_array_len(&mut self.0, 2).expect(MEMORY);
        encode::write_bool(&mut self.0, uuid_bytes(id).is_some()).expect(MEMORY);
        self.uuid(id)
    }

    fn plain_pair(&mut self, text: &str) -> &mut Packer {
        encode::write_array_len(&mut self.0, 2).expect(MEMORY);
        encode::write_bool(&mut self.0, false).expect(MEMORY);
        self.text(text)
    }

    fn groups(&mut self, groups: &[String]) -> &mut Packer {
        encode::write_array_len(&mut self.0, groups.len() as u32).expect(MEMORY);
        groups.iter().for_each(|group| {
            self.pair(group);
        });
        self
    }
}

/// One value of a payload.
enum Item {
    Bool(bool),
    Number(u32),
    Float(f64),
    Text(String),
    Bytes([u8; 16]),
    Array(Vec<Item>),
}

impl Item {
    fn read(rest: &mut &[u8], depth: usize) -> Option<Item> {
        let marker = decode::read_marker(rest).ok()?;
        Some(match marker {
            Marker::True => Item::Bool(true),
            Marker::False => Item::Bool(false),
            Marker::FixPos(number) => Item::Number(u32::from(number)),
            Marker::U8 => Item::Number(u32::from(rest.read_data_u8().ok()?)),
            Marker::U16 => Item::Number(u32::from(rest.read_data_u16().ok()?)),
            Marker::F64 => Item::Float(rest.read_data_f64().ok()?),
            Marker::FixStr(length) => Item::text(rest, usize::from(length))?,
            Marker::Str8 => Item::text_of_any_length(rest)?,
            Marker::Bin8 => Item::sixteen(rest)?,
            Marker::FixArray(length) => Item::items(rest, usize::from(length), depth)?,
            Marker::Array16 => {
                let length = usize::from(rest.read_data_u16().ok()?);
                Item::items(rest, length, depth)?
            }
            _ => return None,
        })
    }

    fn text_of_any_length(rest: &mut &[u8]) -> Option<Item> {
        let length = usize::from(rest.read_data_u8().ok()?);
        Item::text(rest, length)
    }

    fn text(rest: &mut &[u8], length: usize) -> Option<Item> {
        let (text, after) = rest.split_at_checked(length.min(MAX_TEXT))?;
        *rest = after;
        String::from_utf8(text.to_vec()).ok().map(Item::Text)
    }

    fn sixteen(rest: &mut &[u8]) -> Option<Item> {
        let length = rest.read_data_u8().ok()?;
        let (bytes, after) = rest.split_at_checked(usize::from(length))?;
        *rest = after;
        bytes.try_into().ok().map(Item::Bytes)
    }

    fn items(rest: &mut &[u8], length: usize, depth: usize) -> Option<Item> {
        if length > MAX_ITEMS || depth >= MAX_DEPTH {
            return None;
        }
        (0..length).map(|_| Item::read(rest, depth + 1)).collect::<Option<_>>().map(Item::Array)
    }

    fn number(self) -> Option<u32> {
        if let Item::Number(number) = self { Some(number) } else { None }
    }

    fn array(self) -> Option<Vec<Item>> {
        if let Item::Array(items) = self { Some(items) } else { None }
    }

    /// A text, or the hex digits of 16 bytes.
    fn uuid(self) -> Option<String> {
        match self {
            Item::Text(text) => Some(text),
            Item::Bytes(bytes) => Some(format!("{:032x}", u128::from_be_bytes(bytes))),
            _ => None,
        }
    }

    /// `[is_uuid, value]`.
    fn id(self) -> Option<String> {
        let mut pair = self.array()?.into_iter();
        match (pair.next()?, pair.next()?, pair.next()) {
            (Item::Bool(true), id @ Item::Bytes(_), None) | (Item::Bool(false), id @ Item::Text(_), None) => id.uuid(),
            _ => None,
        }
    }

    fn audit_id(self) -> Option<[u8; 16]> {
        if let Item::Bytes(bytes) = self { Some(bytes) } else { None }
    }

    fn time(self) -> Option<Time> {
        match self {
            Item::Float(seconds) if (0.0..1e11).contains(&seconds) => Some(Time((seconds * 1e6).round() as i64)),
            _ => None,
        }
    }
}
