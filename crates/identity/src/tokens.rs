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

/// Seals a token. The moment of issue is kept in whole seconds, beside the payload.
pub fn seal(token: &Token, keys: &fernet::Keys) -> String {
    let sealed = keys.seal(&token.encode(), token.issued);
    sealed.trim_end_matches('=').to_string()
}

/// Opens a token; says nothing about whether it has expired or was revoked.
pub fn open(text: &str, keys: &fernet::Keys) -> Result<Token, TokenError> {
    if text.len() > TOKEN_BYTES {
        return Err(TokenError::TooLong);
    }
    let (payload, issued) = keys.open(text).ok_or(TokenError::Foreign)?;
    let mut token = Token::decode(&payload).ok_or(TokenError::Layout)?;
    token.issued = Time(issued.0);
    Ok(token)
}

#[cfg(test)]
mod tests;
