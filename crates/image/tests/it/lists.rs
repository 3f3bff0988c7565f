//! Lists of images: filters, order, pages.

use api::{Json, json};
use base::clock;

use crate::cloud::{Cloud, Person, text};

async fn make(person: Person<'_>, images: &[Json]) {
    for image in images {
        person.create(image.clone()).await;
    }
}

#[tokio::test]
async fn a_list_has_what_concerns_the_reader() {
    let cloud = Cloud::new().await;
    let admin = cloud.by("admin");
    for (owner, visibility) in
        [("blue", "private"), ("blue", "community"), ("red", "private"), ("red", "community"), ("red", "public")]
    {
        admin.create(json!({"name": format!("{owner} {visibility}"), "owner": owner, "visibility": visibility})).await;
    }
    let sorted = "sort_key=name&sort_dir=asc";
    assert_eq!(cloud.by("alice").names(sorted).await, ["blue community", "blue private", "red public"]);
    assert_eq!(cloud.by("reader").names(sorted).await.len(), 3);
    assert_eq!(cloud.by("carol").names(sorted).await, ["red public"]);
    // Community images of others are found by those who ask.
    let community = cloud.by("carol").names(&format!("visibility=community&{sorted}")).await;
    assert_eq!(community, ["blue community", "red community"]);
    assert_eq!(cloud.by("carol").names("visibility=all").await.len(), 3);
    assert_eq!(admin.names("visibility=all").await.len(), 5);
    assert_eq!(admin.names("").await.len(), 3);
    assert_eq!(cloud.by("alice").names("visibility=private").await, ["blue private"]);
    assert_eq!(cloud.by("alice").names("owner=red").await, ["red public"]);
    let got = cloud.by("alice").get("/v2/images?visibility=secret").await;
    assert_eq!(got.refused(400), "Invalid visibility value: secret");
    cloud.by("nobody").get("/v2/images").await.ok(403);
}

#[tokio::test]
async fn a_list_is_filtered_by_whatever_an_image_has() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    make(
        alice,
        &[
            json!({"name": "a", "disk_format": "raw", "container_format": "bare", "os_distro": "debian", "tags": ["x", "y"]}),
            json!({"name": "b,c", "disk_format": "qcow2", "container_format": "bare", "os_distro": "debian", "a": "1", "tags": ["x"]}),
            json!({"name": "d", "disk_format": "iso", "min_ram": 64, "protected": true}),
            json!({"name": "h", "os_hidden": true}),
        ],
    )
    .await;
    let big = alice.active("big", "0123456789").await;
    let found = async |query: &str| alice.names(&format!("{query}&sort=name:asc")).await.join(" ");
    for (query, names) in [
        ("", "a b,c big d"),
        ("name=a", "a"),
        ("name=in:a,%22b,c%22", "a b,c"),
        ("disk_format=in:raw,iso", "a big d"),
        ("container_format=bare", "a b,c big"),
        ("status=active", "big"),
        ("status=queued&disk_format=raw", "a"),
        ("os_distro=debian", "a b,c"),
        ("os_distro=debian&a=1", "b,c"),
        ("os_distro=deb", ""),
        ("tag=x", "a b,c"),
        ("tag=x&tag=y", "a"),
        ("size_min=5", "big"),
        ("size_min=5&size_max=9", ""),
        ("size=10", "big"),
        ("size=many", ""),
        ("min_ram=64", "d"),
        ("min_ram_min=1", "d"),
        ("protected=true", "d"),
        ("os_hidden=true", "h"),
        ("os_hidden=True", "h"),
        ("checksum=781e5e245d69b566979b86e28d23f2c7", "big"),
        ("owner=blue&name=d", "d"),
        ("owner=red", ""),
        (&format!("id={big}"), "big"),
        (&format!("id=in:{big},nosuch"), "big"),
        ("created_at=gt:2020-01-01T00:00:00Z&name=a", "a"),
        ("created_at=lt:2020-01-01T00:00:00Z", ""),
        ("updated_at=gte:2020-01-01&name=a", "a"),
    ] {
        assert_eq!(found(query).await, names, "{query}");
    }
    for (query, words) in [
        ("os_hidden=perhaps", "Invalid value 'perhaps' for 'os_hidden' filter. Valid values are 'true' or 'false'."),
        ("protected=True", "Invalid value 'True' for 'protected' filter. Valid values are 'true' or 'false'."),
        ("size_min=many", "Unable to filter on a range with a non-numeric value."),
        ("name=like:x", "Unable to filter by unknown operator 'like'."),
        ("created_at=gt:soon", "Bad \"created_at\" query filter format. Use ISO 8601 DateTime notation."),
        ("created_at=like:2020-01-01", "Unable to filter on a unknown operator."),
        ("member_status=perhaps", "Invalid status: perhaps"),
        ("changes-since=x", "The \"changes-since\" filter is no longer available on v2."),
        ("name=in:%22a", "Invalid filter value \"a. The quote is not closed."),
    ] {
        assert_eq!(alice.get(&format!("/v2/images?{query}")).await.refused(400), words);
    }
}

#[tokio::test]
async fn times_compare_by_the_second_that_is_shown() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let image = alice.create(json!({"name": "a"})).await;
    let shown = text(&image["created_at"]);
    for (compare, found) in [("eq", 1), ("gte", 1), ("lte", 1), ("gt", 0), ("lt", 0), ("neq", 0)] {
        assert_eq!(alice.names(&format!("created_at={compare}:{shown}")).await.len(), found, "{compare}");
    }
    assert_eq!(alice.names(&format!("created_at={shown}")).await.len(), 1);
    assert!(base::Time::parse(&shown).unwrap() <= clock::now());
}

#[tokio::test]
async fn pages_follow_one_another() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    for n in 0..5 {
        alice
            .create(json!({"name": format!("n{n}"), "disk_format": if n % 2 == 0 { Json::Null } else { json!("raw") }}))
            .await;
    }
    for query in [
        "limit=2",
        "limit=2&sort=name:asc",
        "limit=2&sort_key=disk_format&sort_dir=asc&owner=blue",
        "limit=1&sort=size,name:asc",
    ] {
        let mut seen = Vec::new();
        let mut next = Some(format!("/v2/images?{query}"));
        while let Some(link) = next {
            let page = alice.get(&link).await.ok(200);
            assert_eq!(text(&page["first"]), format!("/v2/images?{}", query.replace(':', "%3A").replace(',', "%2C")));
            seen.extend(page["images"].as_array().unwrap().iter().map(|image| text(&image["name"])));
            next = page.get("next").map(text);
        }
        let count = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!((count, seen.len()), (5, 5), "{query}");
    }
    assert_eq!(alice.names("").await[0], "n4", "the newest comes first");
    assert_eq!(alice.names("sort_dir=asc").await[0], "n0");
    assert!(alice.names("limit=0").await.is_empty());
    assert_eq!(alice.get("/v2/images").await.ok(200)["first"], "/v2/images");
}

#[tokio::test]
async fn a_page_that_cannot_be_is_refused() {
    let cloud = Cloud::new().await;
    let zero = "00000000-0000-0000-0000-000000000000";
    for (query, words) in [
        ("limit=abc".to_string(), "limit param must be an integer".to_string()),
        ("limit=-1".to_string(), "limit param must be positive".to_string()),
        (format!("marker={zero}"), format!("No image found with ID {zero}")),
        (
            "sort_key=zz".to_string(),
            "Invalid sort key: zz. It must be one of the following: name, status, container_format, disk_format, size, \
             id, created_at, updated_at."
                .to_string(),
        ),
        ("sort=name:up".to_string(), "Invalid sort direction: up".to_string()),
        ("sort=name&sort_dir=asc".to_string(), "Old and new sorting syntax cannot be combined".to_string()),
    ] {
        assert_eq!(cloud.by("alice").get(&format!("/v2/images?{query}")).await.refused(400), words);
    }
}

#[tokio::test]
async fn a_page_has_at_most_what_the_operator_allows() {
    let cloud = Cloud::configured("limit_param_default = 1\napi_limit_max = 2").await;
    let alice = cloud.by("alice");
    make(alice, &[json!({"name": "a"}), json!({"name": "b"}), json!({"name": "c"})]).await;
    assert_eq!(alice.names("").await.len(), 1);
    assert_eq!(alice.names("limit=99").await.len(), 2);
}
