//! Our tokens against vectors that Python's msgpack and cryptography made in keystone's manner.

use base::Time;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::fernet::{Key, Keys};
use super::payload::{Grant, Scope, Token};
use super::{TokenError, open, seal};

const VECTORS: &str = include_str!("../../tests/facts/tokens.tsv");
const USER: &str = "1b10800ca43d46d2a952ee95b4b038c2";
const PROJECT: &str = "ecad5f6662ce415fac7b3f1c3eb5d772";
const OTHER: &str = "00ff00ff00ff00ff00ff00ff00ff00ff";

fn keys() -> Keys {
    Keys::new(vec![Key::parse("cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=").unwrap()]).unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// The token that the vector `kind` was made of.
fn token(kind: &str) -> Token {
    let first: [u8; 16] = std::array::from_fn(|at| at as u8);
    let parent: [u8; 16] = std::array::from_fn(|at| at as u8 + 240);
    let project = || Scope::Project(PROJECT.into());
    let federation = |groups: &[&str], provider: &str, protocol: &str| Grant::Federation {
        groups: groups.iter().map(|group| group.to_string()).collect(),
        provider: provider.into(),
        protocol: protocol.into(),
    };
    let (methods, scope, grant) = match kind {
        "0" => (2, Scope::Unscoped, Grant::Plain),
        "1 default" => (2, Scope::Domain("default".into()), Grant::Plain),
        "1 uuid" => (2, Scope::Domain(PROJECT.into()), Grant::Plain),
        "2" | "2 text" => (6, project(), Grant::Plain),
        "3" => (2, project(), Grant::Trust(OTHER.into())),
        "4" => (16, Scope::Unscoped, federation(&[PROJECT, "short"], "idp", "saml2")),
        "5" => (16, project(), federation(&[OTHER], "idp", "openid")),
        "6" => (16, Scope::Domain("default".into()), federation(&[], OTHER, "openid")),
        "7" => (8, project(), Grant::AccessToken(OTHER.into())),
        "8" => (2, Scope::System, Grant::Plain),
        "9" => (32, project(), Grant::ApplicationCredential(OTHER.into())),
        "10" => (64, project(), Grant::Certificate { domain: "default".into(), thumbprint: "thumb".repeat(9) }),
        other => panic!("no token for {other}"),
    };
    let chained = matches!(kind, "1 uuid" | "2" | "2 text" | "3");
    Token {
        user_id: match kind {
            "2 text" => "ldap-user-äö".into(),
            "4" => "a".repeat(64),
            _ => USER.into(),
        },
        methods,
        scope,
        grant,
        expires: Time(1795233388000000),
        issued: Time(if kind == "2 text" { 1795229788250000 } else { 1795229788000000 }),
        audit_ids: if chained { vec![first, parent] } else { vec![first] },
    }
}

#[test]
fn every_layout_is_read_and_written_byte_for_byte() {
    let rows: Vec<Vec<&str>> =
        VECTORS.lines().filter(|line| !line.starts_with('#')).map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows.len(), 13);
    for row in rows {
        let expected = token(row[0]);
        let payload = unhex(row[1]);
        let fraction = expected.issued.0 % 1_000_000;
        let with_fraction = Token { expires: Time(expected.expires.0 + fraction), ..expected.clone() };
        assert_eq!(with_fraction.encode(), payload, "{}", row[0]);
        assert_eq!(open(row[2], &keys()), Ok(expected.clone()), "{}", row[0]);
        let ours = seal(&expected, &keys());
        assert_eq!(ours.len(), row[2].len());
        assert_eq!(open(&ours, &keys()), Ok(expected), "{}", row[0]);
    }
}

#[test]
fn broken_payloads_are_no_tokens() {
    for row in VECTORS.lines().filter(|line| !line.starts_with('#')) {
        let payload = unhex(row.split('\t').nth(1).unwrap());
        for at in 0..payload.len() {
            assert_eq!(Token::decode(&payload[..at]), None);
            let mut touched = payload.clone();
            for bit in 0..8 {
                touched[at] = payload[at] ^ (1 << bit);
                let _ = Token::decode(&touched);
            }
        }
        assert_eq!(Token::decode(&[&payload[..], b"\0"].concat()), None);
    }
    let sealed = keys().seal(b"\xdc\xff\xff\xdc\xff\xff", Time(0));
    assert_eq!(open(&sealed, &keys()), Err(TokenError::Layout));
}

#[test]
fn foreign_and_oversized_texts_are_no_tokens() {
    let ours = seal(&token("2"), &keys());
    let other = Keys::new(vec![Key::parse(&Key::fresh()).unwrap()]).unwrap();
    assert_eq!(open(&ours, &other), Err(TokenError::Foreign));
    assert_eq!(open("", &keys()), Err(TokenError::Foreign));
    assert_eq!(open("not a token!", &keys()), Err(TokenError::Foreign));
    assert_eq!(open(&"A".repeat(9000), &keys()), Err(TokenError::TooLong));
}

#[test]
fn a_token_shows_its_methods_and_audit_ids_as_keystone_does() {
    let token = token("2");
    assert_eq!(token.method_names(), ["password", "token"]);
    assert_eq!(token.audit_texts()[0], "AAECAwQFBgcICQoLDA0ODw");
    assert_eq!(URL_SAFE_NO_PAD.decode(&token.audit_texts()[1]).unwrap(), token.audit_ids[1]);
}
