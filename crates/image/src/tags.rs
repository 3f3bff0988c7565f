//! Tags: words on an image, one at a time.

use api::{Answer, Call, Done, Operation, Path, Permitted, Refusal, delete, put};

use crate::Images;
use crate::images::{ImageFault, Whole, check_tag, find, store, within_quotas};

/// Limit: how often a change is tried again after somebody else changed the image meanwhile.
const TRIES: usize = 5;

pub fn operations() -> Vec<Operation<Images>> {
    vec![
        put("/images/{image_id}/tags/{tag_value}", add).rule("modify_image").status(204),
        delete("/images/{image_id}/tags/{tag_value}", remove).rule("modify_image"),
    ]
}

async fn add(call: Call<Images>, Path((id, tag)): Path<(String, String)>) -> Answer<Done> {
    check_tag(&tag)?;
    change(&call, &id, |whole| {
        if !whole.tags.contains(&tag) {
            whole.tags.push(tag.clone());
        }
        within_quotas(&call, 0, whole.tags.len())
    })
    .await
}

async fn remove(call: Call<Images>, Path((id, tag)): Path<(String, String)>) -> Answer<Done> {
    change(&call, &id, |whole| {
        let before = whole.tags.len();
        whole.tags.retain(|other| *other != tag);
        let removed = whole.tags.len() < before;
        if removed { Ok(()) } else { Err(Refusal::not_found("The resource could not be found.")) }
    })
    .await
}

async fn change(call: &Call<Images>, id: &str, apply: impl Fn(&mut Whole) -> Answer<()>) -> Answer<Done> {
    for _ in 0..TRIES {
        let gone = || ImageFault::Gone { id: id.into() };
        let whole = find(call, id).await?.ok_or_else(gone)?;
        let mut whole: Permitted<Whole> = call.permit(whole)?;
        apply(&mut whole)?;
        if store::update(&call.db, &mut whole).await? {
            return Ok(Done::with(whole));
        }
    }
    Err(ImageFault::Busy { id: id.into() }.into())
}
