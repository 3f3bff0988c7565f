//! The SQL of images: rows, what belongs to them, and the archive.

use std::collections::{BTreeMap, HashMap, HashSet};

use api::{Answer, OrConflict};
use base::clock;
use db::{Db, Error, Queries, Tx, select, sql};

use super::{Image, ImageFault, Status, Whole};
use crate::store::Arrived;

db::record! {
    pub struct Property in "image_properties" {
        pub image_id: String,
        pub name: String,
        pub value: String,
    }
}

db::record! {
    pub struct Tag in "image_tags" {
        pub image_id: String,
        pub value: String,
    }
}

db::record! {
    /// What is left of a deleted image.
    pub struct Deleted in "deleted_images" {
        pub id: String,
        pub owner: Option<String>,
        pub name: Option<String>,
        pub deleted_at: base::Time,
        /// Until its file is known to be gone.
        pub has_file: bool,
        pub document: base::Json,
    }
}

/// The image, and the membership of `project` in it.
pub async fn find(db: &Db, store: &str, id: &str, project: &str) -> Result<Option<Whole>, Error> {
    let Some(image) = db.maybe(select::<Image>("WHERE id = ?").bind(id)).await? else { return Ok(None) };
    Ok(complete(db, store, vec![image], project).await?.pop())
}

/// Adds to images what belongs to them, in three queries however many they are.
pub async fn complete(db: &Db, store: &str, images: Vec<Image>, project: &str) -> Result<Vec<Whole>, Error> {
    if images.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<&str> = images.iter().map(|image| image.id.as_str()).collect();
    let mut properties: HashMap<String, BTreeMap<String, String>> = HashMap::new();
    for Property { image_id, name, value } in db.all(select("").in_list("image_id", &ids)).await? {
        properties.entry(image_id).or_default().insert(name, value);
    }
    let mut tags: HashMap<String, Vec<String>> = HashMap::new();
    for Tag { image_id, value } in db.all(select("ORDER BY value").in_list("image_id", &ids)).await? {
        tags.entry(image_id).or_default().push(value);
    }
    let shared = sql("SELECT image_id FROM image_members WHERE member = ?").bind(project).in_list("image_id", &ids);
    let shared = db.rows(shared).await?;
    let shared: HashSet<String> = shared.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?;
    let whole = |image: Image| Whole {
        properties: properties.remove(&image.id).unwrap_or_default(),
        tags: tags.remove(&image.id).unwrap_or_default(),
        member: shared.contains(&image.id).then(|| project.to_string()),
        store: store.to_string(),
        image,
    };
    Ok(images.into_iter().map(whole).collect())
}

/// Upstream: the id of a deleted image stays taken.
pub async fn insert(db: &Db, whole: &Whole) -> Answer<()> {
    let exists = || ImageFault::Exists { id: whole.image.id.clone() };
    let mut tx = db.begin().await?;
    if tx.count(sql("SELECT COUNT(*) FROM deleted_images WHERE id = ?").bind(&whole.image.id)).await? > 0 {
        return Err(exists().into());
    }
    tx.insert(&whole.image).await.or_conflict(exists)?;
    insert_belongings(&mut tx, whole).await?;
    tx.commit().await?;
    Ok(())
}

async fn insert_belongings(tx: &mut Tx, whole: &Whole) -> Result<(), Error> {
    let image_id = || whole.image.id.clone();
    let property =
        |(name, value): (&String, &String)| Property { image_id: image_id(), name: name.clone(), value: value.clone() };
    tx.insert_all(&whole.properties.iter().map(property).collect::<Vec<_>>()).await?;
    let tag = |value: &String| Tag { image_id: image_id(), value: value.clone() };
    tx.insert_all(&whole.tags.iter().map(tag).collect::<Vec<_>>()).await
}

async fn delete_belongings(tx: &mut Tx, id: &str) -> Result<(), Error> {
    tx.run(sql("DELETE FROM image_properties WHERE image_id = ?").bind(id)).await?;
    tx.run(sql("DELETE FROM image_tags WHERE image_id = ?").bind(id)).await?;
    Ok(())
}

/// Writes a changed image; false when somebody else changed it since `whole` was read.
pub async fn update(db: &Db, whole: &mut Whole) -> Result<bool, Error> {
    let mut tx = db.begin().await?;
    let Image { id, owner, name, visibility, disk_format, container_format, .. } = &whole.image;
    let Image { min_disk, min_ram, protected, os_hidden, generation, .. } = &whole.image;
    let now = clock::now();
    let take = sql(
        "UPDATE images SET owner = ?, name = ?, visibility = ?, disk_format = ?, container_format = ?, min_disk = ?, \
         min_ram = ?, protected = ?, os_hidden = ?, updated_at = ?, generation = generation + 1 \
         WHERE id = ? AND generation = ?",
    );
    let take = take.bind(owner).bind(name).bind(visibility).bind(disk_format).bind(container_format).bind(min_disk);
    let take = take.bind(min_ram).bind(protected).bind(os_hidden).bind(now).bind(id).bind(generation);
    if tx.run(take).await? == 0 {
        return Ok(false);
    }
    delete_belongings(&mut tx, id).await?;
    insert_belongings(&mut tx, whole).await?;
    tx.commit().await?;
    whole.image.updated_at = now;
    whole.image.generation += 1;
    Ok(true)
}

/// Moves the image from one status to another; false when it is not in the first any more.
pub async fn change_status(mut db: impl Queries, id: &str, from: Status, to: Status) -> Result<bool, Error> {
    let take =
        sql("UPDATE images SET status = ?, updated_at = ?, generation = generation + 1 WHERE id = ? AND status = ?");
    Ok(db.run(take.bind(to).bind(clock::now()).bind(id).bind(from)).await? > 0)
}

/// The upload has arrived: the image becomes active. False when the image is gone.
pub async fn activate(
    tx: &mut Tx,
    id: &str,
    arrived: &Arrived,
    algorithm: &str,
    virtual_size: Option<u64>,
) -> Result<bool, Error> {
    let take = sql(
        "UPDATE images SET status = ?, size = ?, virtual_size = ?, checksum = ?, os_hash_algo = ?, os_hash_value = ?, \
         updated_at = ?, generation = generation + 1 WHERE id = ? AND status = ?",
    );
    let take = take.bind(Status::Active).bind(arrived.size).bind(virtual_size).bind(&arrived.checksum);
    let take = take.bind(algorithm).bind(&arrived.hash).bind(clock::now()).bind(id).bind(Status::Saving);
    Ok(tx.run(take).await? > 0)
}

/// What the images of an owner take up.
pub async fn bytes_of(mut db: impl Queries, owner: Option<&str>) -> Result<u64, Error> {
    let sum = sql("SELECT SUM(size) FROM images WHERE owner = ?").bind(owner);
    Ok(db.count(sum).await?.unsigned_abs())
}

/// Deletes the image and notes that its file must go; false when somebody else was first.
pub async fn archive(db: &Db, whole: &Whole) -> Result<bool, Error> {
    let id = &whole.image.id;
    let mut tx = db.begin().await?;
    if tx.run(sql("DELETE FROM images WHERE id = ?").bind(id)).await? == 0 {
        return Ok(false);
    }
    delete_belongings(&mut tx, id).await?;
    tx.run(sql("DELETE FROM image_members WHERE image_id = ?").bind(id)).await?;
    let deleted = Deleted {
        id: id.clone(),
        owner: whole.image.owner.clone(),
        name: whole.image.name.clone(),
        deleted_at: clock::now(),
        has_file: true,
        document: base::json!({
            "visibility": whole.image.visibility.word(),
            "disk_format": whole.image.disk_format,
            "container_format": whole.image.container_format,
            "size": whole.image.size,
            "checksum": whole.image.checksum,
            "created_at": whole.image.created_at.iso_z(),
            "properties": whole.properties,
            "tags": whole.tags,
        }),
    };
    tx.insert(&deleted).await?;
    tx.commit().await?;
    Ok(true)
}

/// The file of a deleted image is gone.
pub async fn file_is_gone(db: &Db, id: &str) -> Result<(), Error> {
    db.run(sql("UPDATE deleted_images SET has_file = 0 WHERE id = ?").bind(id)).await.map(drop)
}
