//! Proving a password, with lock-out.

use api::{Answer, Refusal};
use base::clock;
use db::sql;

use crate::Identity;
use crate::users::User;
use crate::users::password::unusable;

/// Whether a password that has expired still proves who somebody is: it does for changing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    Allowed,
    Refused,
}

/// The user, if `password` is theirs. Takes the same time for users who do not exist.
pub async fn verify(identity: &Identity, user: Option<User>, password: &str, expired: Expired) -> Answer<User> {
    if let Some(user) = &user
        && is_locked(identity, user)
    {
        return Err(Refusal::new(401, "", format!("The account is locked for user: {}.", user.id)));
    }
    let stored = user.as_ref().and_then(|user| user.password_hash.as_deref());
    let right = identity.passwords.verify(password, stored).await.map_err(unusable)?;
    let user = match (user, right) {
        (Some(user), true) => user,
        (Some(user), false) => {
            record_failure(identity, &user).await?;
            return Err(Refusal::unauthorized());
        }
        (None, _) => return Err(Refusal::unauthorized()),
    };
    if !user.enabled || is_inactive(identity, &user) {
        return Err(Refusal::unauthorized());
    }
    let now = clock::now();
    if expired == Expired::Refused && user.password_expires_at.is_some_and(|expires| expires <= now) {
        let id = &user.id;
        return Err(Refusal::new(401, "", format!("The password is expired and needs to be changed for user: {id}.")));
    }
    record_success(identity, &user).await?;
    Ok(user)
}

fn is_locked(identity: &Identity, user: &User) -> bool {
    let compliance = &identity.settings.compliance;
    let Some(attempts) = compliance.lockout_failure_attempts else { return false };
    if user.option("ignore_lockout_failure_attempts") || user.failed_auth_count < attempts {
        return false;
    }
    let since = user.failed_auth_at.unwrap_or_default();
    compliance.lockout_duration_s <= 0 || since.plus_seconds(compliance.lockout_duration_s) > clock::now()
}

/// Somebody who has not logged in for the configured number of days.
fn is_inactive(identity: &Identity, user: &User) -> bool {
    let Some(days) = identity.settings.compliance.disable_user_account_days_inactive else { return false };
    let last = user.last_active_at.unwrap_or(user.created_at);
    !user.option("ignore_user_inactivity") && last.plus_seconds(days * 86_400) < clock::now()
}

/// Counts a wrong password. After a lock-out has passed, counting starts anew.
async fn record_failure(identity: &Identity, user: &User) -> Answer<()> {
    let Some(attempts) = identity.settings.compliance.lockout_failure_attempts else { return Ok(()) };
    let text = match user.failed_auth_count >= attempts {
        true => "UPDATE users SET failed_auth_count = 1, failed_auth_at = ? WHERE id = ?",
        false => "UPDATE users SET failed_auth_count = failed_auth_count + 1, failed_auth_at = ? WHERE id = ?",
    };
    identity.db.run(sql(text).bind(clock::now()).bind(&user.id)).await?;
    Ok(())
}

async fn record_success(identity: &Identity, user: &User) -> Answer<()> {
    if user.failed_auth_count > 0 {
        let reset = sql("UPDATE users SET failed_auth_count = 0, failed_auth_at = NULL WHERE id = ?");
        identity.db.run(reset.bind(&user.id)).await?;
    }
    if identity.settings.compliance.disable_user_account_days_inactive.is_some() {
        let seen = sql("UPDATE users SET last_active_at = ? WHERE id = ?");
        identity.db.run(seen.bind(clock::now()).bind(&user.id)).await?;
    }
    Ok(())
}
