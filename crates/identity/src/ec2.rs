//! EC2 credentials: pairs of access key and secret for tools that speak Amazon's way.

use api::view::listed;
use api::{
    Answer, AnyBody, Call, Created, Document, Done, Operation, Path, Permitted, Reader, Refusal, Show, View, delete,
    get, post,
};
use base::{Json, json};

use crate::credentials::{Credential, insert, own_rights, store};
use crate::{Identity, projects, users};

const KIND: &str = "ec2";

pub fn operations() -> Vec<Operation<Identity>> {
    const ONE: &str = "/users/{user_id}/credentials/OS-EC2/{credential_id}";
    vec![
        get("/users/{user_id}/credentials/OS-EC2", list).rule("identity:ec2_list_credentials"),
        post("/users/{user_id}/credentials/OS-EC2", create).rule("identity:ec2_create_credential"),
        get(ONE, show).rule("identity:ec2_get_credential"),
        delete(ONE, remove).rule("identity:ec2_delete_credential"),
    ]
}

/// The pair inside a credential.
struct Pair(Credential);

impl View for Pair {
    const ONE: &'static str = "credential";
    const MANY: &'static str = "credentials";

    fn view(&self, to: &Reader) -> Json {
        let Credential { user_id, project_id, blob, .. } = &self.0;
        let parts: Json = serde_json::from_str(blob).unwrap_or_default();
        let access = parts["access"].as_str().unwrap_or_default();
        json!({
            "user_id": user_id,
            "tenant_id": project_id,
            "access": access,
            "secret": parts["secret"],
            "trust_id": parts["trust_id"],
            "links": {"self": to.link(&format!("/users/{user_id}/credentials/OS-EC2/{access}"))},
        })
    }
}

async fn list(call: Call<Identity>, Path(user_id): Path<String>) -> Answer<Document> {
    let permitted = call.allow_on(&json!({"user_id": user_id}))?;
    own_rights(&call)?;
    users::store::user(&call.db, &user_id).await?;
    let pairs = store::of_user(&call.db, &call.credential_keys, &user_id, KIND).await?;
    let shown = pairs.into_iter().map(|pair| Pair(pair).view(&call.reader)).collect();
    Ok(Document::new(permitted, listed("credentials", shown, &call.reader)))
}

async fn create(
    call: Call<Identity>,
    (Path(user_id), AnyBody(body)): (Path<String>, AnyBody),
) -> Answer<Created<Pair>> {
    let permitted = call.allow_on(&json!({"user_id": user_id, "target": {"credential": {"user_id": user_id}}}))?;
    users::store::user(&call.db, &user_id).await?;
    let project_id = body["tenant_id"].as_str().ok_or_else(|| crate::expecting("tenant_id", "request body"))?;
    projects::store::project(&call.db, project_id).await?;
    own_rights(&call)?;
    let access = base::id::hex();
    let blob = json!({"access": access, "secret": base::id::hex(), "trust_id": call.caller.trust_id});
    let credential = Credential {
        id: Credential::id_of_access(&access),
        user_id,
        project_id: Some(project_id.to_string()),
        kind: KIND.into(),
        blob: blob.to_string(),
        extra: json!({}),
    };
    insert(&call, &credential).await?;
    Ok(Created(permitted.map(|()| Pair(credential))))
}

async fn permitted(call: &Call<Identity>, user_id: &str, access: &str) -> Answer<Permitted<Pair>> {
    let id = Credential::id_of_access(access);
    let found = store::find(&call.db, &call.credential_keys, &id).await?;
    // Upstream: a pair that is not there is said before the rule is asked.
    let credential = found.ok_or_else(|| crate::missing("credential", &id))?;
    let permitted = call.allow_on(&json!({"user_id": user_id, "target": {"credential": credential.target()}}))?;
    users::store::user(&call.db, user_id).await?;
    if credential.kind != KIND || credential.user_id != user_id {
        return Err(Refusal::new(401, "", "EC2 access key not found."));
    }
    own_rights(call)?;
    Ok(permitted.map(|()| Pair(credential)))
}

async fn show(call: Call<Identity>, Path((user_id, access)): Path<(String, String)>) -> Answer<Show<Pair>> {
    Ok(Show(permitted(&call, &user_id, &access).await?))
}

async fn remove(call: Call<Identity>, Path((user_id, access)): Path<(String, String)>) -> Answer<Done> {
    let pair = permitted(&call, &user_id, &access).await?;
    store::delete(&call.db, &pair.0.id).await?;
    Ok(Done::with(pair))
}
