//! Tokens: Fernet-sealed payloads in keystone's layouts, so that keys can be shared with upstream's services.

pub mod fernet;
pub mod keys;
pub mod payload;

use base::Time;

pub use keys::{KeyError, KeyRepository};
pub use payload::{Scope, Token};

/// Limit: the text of a token. An ordinary one has about 200 characters; a federated one 25 more per group.
const TOKEN_BYTES: usize = 8 << 10;

/// Why a text is no token of ours. Clients are not told which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the token is too long")]
    TooLong,
    #[error("the token is not sealed with any of our keys")]
    Foreign,
    #[error("the token's payload has an unknown layout")]
    Layout,
}

const SECOND: i64 = 1_000_000;

/// Seals a token. Its expiry counts in whole seconds; the fraction of a second at which it was issued is put there, so
/// that a token from just before a revocation can be told from one just after. Programs of upstream's do not mind.
pub fn seal(token: &Token, keys: &fernet::Keys) -> String {
    let fraction = token.issued.0.rem_euclid(SECOND);
    let expires = Time(Time::from_seconds(token.expires.seconds()).0 + fraction);
    let sealed = keys.seal(&Token { expires, ..token.clone() }.encode(), token.issued);
    sealed.trim_end_matches('=').to_string()
}

/// Opens a token; says nothing about whether it has expired or was revoked.
pub fn open(text: &str, keys: &fernet::Keys) -> Result<Token, TokenError> {
    if text.len() > TOKEN_BYTES {
        return Err(TokenError::TooLong);
    }
    let (payload, issued) = keys.open(text).ok_or(TokenError::Foreign)?;
    let mut token = Token::decode(&payload).ok_or(TokenError::Layout)?;
    token.issued = Time(issued.0 + token.expires.0.rem_euclid(SECOND));
    token.expires = Time::from_seconds(token.expires.seconds());
    Ok(token)
}

#[cfg(test)]
mod tests;
