//! Passwords of users: choosing, changing, and what an operator demands of them.

use api::wire::text;
use api::{Answer, Body, Call, Path, Refusal, Reply, failed, wire};
use base::{Time, clock};
use regex_lite::Regex;

use super::store::{self, User};
use crate::auth::password as log_in;
use crate::passwords::PasswordError;
use crate::settings::Compliance;
use crate::{Identity, revocations};

const DAY_S: i64 = 86_400;

wire! {
    /// What a user sends to change the own password.
    pub struct PasswordChange in "user" open {
        original_password: String = text(0, 8192).required(),
        password: String = text(1, 8192).required(),
    }
}

/// Refuses passwords that the operator does not want.
pub fn check(identity: &Identity, password: &str) -> Answer<()> {
    let max = identity.settings.max_password_length;
    if password.len() > max {
        return Err(Refusal::forbidden(format!(
            "The password length must be less than or equal to {max}. The server could not comply with the request \
             because the password is invalid."
        )));
    }
    let Compliance { password_regex, password_regex_description, .. } = &identity.settings.compliance;
    let Some(pattern) = password_regex else { return Ok(()) };
    // A pattern is tried at the start only.
    let Ok(regex) = Regex::new(&format!("^(?:{pattern})")) else {
        tracing::error!(pattern, "[security_compliance] password_regex is not a pattern");
        return Err(Refusal::bad_request(
            "Password validation error: Unable to validate password due to invalid configuration.",
        ));
    };
    match regex.is_match(password) {
        true => Ok(()),
        false => {
            let wanted = password_regex_description.as_deref().unwrap_or("None");
            Err(Refusal::bad_request(format!("The password does not match the requirements: {wanted}.")))
        }
    }
}

/// Hashes a new password and puts it into the user's columns.
pub async fn choose(identity: &Identity, user: &mut User, password: &str) -> Answer<()> {
    let hash = identity.passwords.hash(password).await.map_err(unusable)?;
    let now = clock::now();
    user.password_hash = Some(hash);
    user.password_created_at = Some(now);
    user.password_self_service = false;
    user.password_expires_at = expiry(&identity.settings.compliance, user, now);
    Ok(())
}

/// When a password chosen at `created` expires.
pub fn expiry(compliance: &Compliance, user: &User, created: Time) -> Option<Time> {
    if user.option("ignore_password_expiry") {
        return None;
    }
    compliance.password_expires_days.map(|days| created.plus_seconds(days * DAY_S))
}

pub fn unusable(error: PasswordError) -> Refusal {
    match error {
        PasswordError::Busy => {
            Refusal::new(503, "", "Too many users are logging in; try again.").header("retry-after", "5")
        }
        error => failed("hashing a password", &error),
    }
}

/// A user changes the own password, with the old one as proof: no token is needed, so that it works once it expired.
pub(super) async fn change(
    call: Call<Identity>,
    (Path(id), Body(change)): (Path<String>, Body<PasswordChange>),
) -> Answer<Reply> {
    let found = store::find(&call.db, &id).await?;
    let user = log_in::verify(&call, found, &change.original_password, log_in::Expired::Allowed).await?;
    if user.option("lock_password") {
        return Err(Refusal::bad_request(
            "You cannot change your password at this time due to password policy disallowing password changes. \
             Please contact your administrator to reset your password.",
        ));
    }
    check(&call, &change.password)?;
    old_enough(&call.settings.compliance, &user)?;
    is_new(&call, &user, &change.password).await?;

    let mut new = user.clone();
    choose(&call, &mut new, &change.password).await?;
    new.password_self_service = true;
    let mut tx = call.db.begin().await?;
    store::set_password(&mut tx, &new, call.settings.compliance.unique_last_password_count).await?;
    revocations::of_user(&mut tx, &id).await?;
    call.settle(tx).await?;
    user.password_hash.iter().for_each(|hash| call.passwords.forget(hash));
    Ok(Reply::new(204))
}

fn old_enough(compliance: &Compliance, user: &User) -> Answer<()> {
    let days = compliance.minimum_password_age_days;
    let (true, Some(created)) = (user.password_self_service, user.password_created_at) else { return Ok(()) };
    let left_s = created.plus_seconds(days * DAY_S).seconds() - clock::now().seconds();
    match left_s {
        ..=0 => Ok(()),
        left_s => Err(Refusal::bad_request(format!(
            "You cannot change your password at this time due to the minimum password age. Once you change your \
             password, it must be used for {days} day(s) before it can be changed. Please try again in {} day(s) or \
             contact your administrator to reset your password.",
            left_s / DAY_S
        ))),
    }
}

/// Refuses the last passwords over again.
async fn is_new(call: &Call<Identity>, user: &User, password: &str) -> Answer<()> {
    let count = call.settings.compliance.unique_last_password_count;
    for earlier in store::earlier(&call.db, &user.id).await?.iter().take(count.max(0) as usize) {
        if call.passwords.verify(password, Some(&earlier.hash)).await.map_err(unusable)? {
            return Err(Refusal::bad_request(format!(
                "The new password cannot be identical to a previous password. The total number which includes the \
                 new password must be unique is {count}."
            )));
        }
    }
    Ok(())
}
