//! Lists: pages and the links between them, order, filters, service by service.

use api::json;

use crate::toy::{BLUE, COMPUTE, IDENTITY, IMAGE, NETWORK, PLACEMENT, Stage};

const NAMES: &[&str] = &["a", "b", "c", "d"];

#[tokio::test]
async fn compute_links_to_the_next_page_with_sorted_parameters() {
    let stage = Stage::<COMPUTE>::with_widgets(NAMES).await;
    let body = stage.get("/v2.1/widgets?sort_key=name&limit=2&name=&sort_dir=asc").await.is(200);
    assert_eq!(body["widgets"].as_array().unwrap().len(), 0, "an empty filter filters");

    let body =
        stage.get(&format!("/v2.1/{BLUE}/widgets?sort_key=name&limit=2&unknown=a%20b&sort_dir=asc")).await.is(200);
    let href =
        format!("http://localhost/v2.1/{BLUE}/widgets?limit=2&marker=id-b&sort_dir=asc&sort_key=name&unknown=a+b");
    assert_eq!(body["widgets_links"], json!([{"rel": "next", "href": href}]));

    let body = stage.get("/v2.1/widgets?limit=2&marker=id-b").await.is(200);
    assert_eq!(body["widgets"][0]["name"], "c");
    assert_eq!(body["widgets_links"][0]["href"], "http://localhost/v2.1/widgets?limit=2&marker=id-d");
    let body = stage.get("/v2.1/widgets?limit=2&marker=id-d").await.is(200);
    assert_eq!(body, json!({"widgets": []}));
    assert_eq!(stage.get("/v2.1/widgets").await.is(200).get("widgets_links"), None);
}

#[tokio::test]
async fn network_links_to_both_neighbours_also_from_the_first_page() {
    let stage = Stage::<NETWORK>::with_widgets(NAMES).await;
    let body = stage.get("/v2.0/widgets?limit=2&sort_key=id&sort_dir=asc").await.is(200);
    let base = "http://localhost/v2.0/widgets?limit=2&sort_key=id&sort_dir=asc";
    let next = json!({"rel": "next", "href": format!("{base}&marker=id-b")});
    let previous = json!({"rel": "previous", "href": format!("{base}&marker=id-a&page_reverse=True")});
    assert_eq!(body["widgets_links"], json!([next, previous]));

    let body = stage.get("/v2.0/widgets?limit=2&marker=id-c&page_reverse=True").await.is(200);
    assert_eq!((&body["widgets"][0]["name"], &body["widgets"][1]["name"]), (&json!("a"), &json!("b")));
    let body = stage.get("/v2.0/widgets?limit=3&marker=id-c").await.is(200);
    let previous = "http://localhost/v2.0/widgets?limit=3&marker=id-d&page_reverse=True";
    assert_eq!(body["widgets_links"], json!([{"rel": "previous", "href": previous}]));
    assert_eq!(stage.get("/v2.0/widgets").await.is(200).get("widgets_links"), None);
    assert_eq!(stage.get("/v2.0/widgets?limit=0").await.is(200)["widgets"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn identity_repeats_the_query_as_it_came_and_says_when_it_cut_a_list() {
    let stage = Stage::<IDENTITY>::with_widgets(NAMES).await;
    let body = stage.get("/v3/widgets?name=a&x=%41").await.is(200);
    let this = "http://localhost/v3/widgets?name=a&x=%41";
    assert_eq!(body["links"], json!({"next": null, "self": this, "previous": null}));
    assert_eq!(body.get("truncated"), None);

    let body = stage.get("/v3/widgets").await.is(200);
    assert_eq!(body["widgets"].as_array().unwrap().len(), 3);
    assert_eq!(body["truncated"], true);

    let body = stage.get("/v3/widgets?limit=2").await.is(200);
    assert_eq!(body["links"]["next"], "http://localhost/v3/widgets?limit=2&marker=id-b");
    assert_eq!(body.get("truncated"), None);
}

#[tokio::test]
async fn image_links_are_paths() {
    let stage = Stage::<IMAGE>::with_widgets(NAMES).await;
    let body = stage.get("/v2/widgets?limit=1").await.is(200);
    assert_eq!(body["first"], "/v2/widgets?limit=1");
    assert_eq!(body["next"].as_str().unwrap(), "/v2/widgets?limit=1&marker=id-a");
}

#[tokio::test]
async fn a_limit_that_is_no_number_is_refused_in_the_words_of_each_service() {
    let got = Stage::<COMPUTE>::bare().get("/v2.1/widgets?limit=abc").await;
    let words = "Invalid input for query parameters limit. Value: abc. 'abc' does not match '^[0-9]*$'";
    assert_eq!(got.is(400)["badRequest"]["message"], words);
    let got = Stage::<IMAGE>::bare().get("/v2/widgets?limit=abc").await;
    assert_eq!(got.is(400)["message"], "limit param must be an integer<br /><br />\n\n\n");
    let got = Stage::<NETWORK>::bare().get("/v2.0/widgets?limit=-1").await;
    assert_eq!(got.is(400)["NeutronError"]["type"], "BadRequest");
    Stage::<PLACEMENT>::bare().get("/widgets?limit=x").await.is(400);
    Stage::<IDENTITY>::bare().get("/v3/widgets?limit=-5").await.is(400);
}

#[tokio::test]
async fn a_marker_that_is_nobodys_is_refused() {
    let stage = Stage::<COMPUTE>::with_widgets(NAMES).await;
    let got = stage.get("/v2.1/widgets?marker=nosuch").await;
    assert_eq!(got.is(400)["badRequest"]["message"], "marker [nosuch] not found");
    let got = stage.ask("GET", "/v2.1/widgets?marker=id-a").token("bob").send().await;
    assert_eq!(got.is(400)["badRequest"]["message"], "marker [id-a] not found");
    let got = Stage::<IDENTITY>::with_widgets(NAMES).await.get("/v3/widgets?marker=nosuch").await;
    assert_eq!(got.is(404)["error"]["message"], "Marker nosuch could not be found.");
}

#[tokio::test]
async fn only_what_a_listing_names_can_be_sorted_by() {
    let stage = Stage::<COMPUTE>::with_widgets(NAMES).await;
    let names = |body: api::Json| -> String {
        body["widgets"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_string()).collect()
    };
    assert_eq!(names(stage.get("/v2.1/widgets?sort_key=size&sort_dir=desc").await.is(200)), "dcba");
    // The listing's own direction where the client names none.
    assert_eq!(names(stage.get("/v2.1/widgets?sort_key=size").await.is(200)), "abcd");
    let got = stage.get("/v2.1/widgets?sort_key=project_id").await;
    assert_eq!(got.is(400)["badRequest"]["message"], "Sort key supplied is invalid: project_id");
    stage.get("/v2.1/widgets?sort_key=name&sort_dir=up").await.is(400);
    stage.get("/v2.1/widgets?sort_key=name%22;DROP%20TABLE%20widgets").await.is(400);
}

#[tokio::test]
async fn repeated_filters_mean_any_to_network_and_the_last_to_compute() {
    let compute = Stage::<COMPUTE>::with_widgets(NAMES).await;
    let body = compute.get("/v2.1/widgets?name=a&name=b").await.is(200);
    assert_eq!(body["widgets"].as_array().unwrap().len(), 1);
    assert_eq!(body["widgets"][0]["name"], "b");
    assert_eq!(compute.get("/v2.1/widgets?round=yes").await.is(200)["widgets"].as_array().unwrap().len(), 2);
    compute.get("/v2.1/widgets?round=perhaps").await.is(400);

    let network = Stage::<NETWORK>::with_widgets(NAMES).await;
    assert_eq!(network.get("/v2.0/widgets?name=a&name=b").await.is(200)["widgets"].as_array().unwrap().len(), 2);

    let identity = Stage::<IDENTITY>::with_widgets(NAMES).await;
    let body = identity.get("/v3/widgets?name=a&name=b").await.is(200);
    assert_eq!(body["widgets"][0]["name"], "a");
    let body = identity.get("/v3/widgets?name__contains=c").await.is(200);
    assert_eq!(body["widgets"].as_array().unwrap().len(), 1);
}
