//! The table of everything that is served, for the ratchet and for docs/api.

use std::path::Path;

use anyhow::{Context, Result};
use api::docs;

/// `service METHOD path[ action]`, a line each.
pub fn list() -> Result<()> {
    let print = |service: &str, lines: Vec<String>| lines.iter().for_each(|line| println!("{service} {line}"));
    print("identity", docs::served(&identity::operations()));
    print("image", docs::served(&image::operations()));
    print("placement", docs::served(&placement::operations()));
    print("network", docs::served(&network::operations()));
    print("compute", docs::served(&compute::operations()));
    Ok(())
}

/// The pages of docs/api and the OpenAPI documents beside them.
pub fn documents(into: &Path) -> Result<()> {
    std::fs::create_dir_all(into).with_context(|| format!("making {}", into.display()))?;
    let write = |service: &str, page: String, openapi: api::Json| -> Result<()> {
        std::fs::write(into.join(format!("{service}.md")), page)?;
        std::fs::write(into.join(format!("{service}.openapi.json")), format!("{openapi:#}\n"))?;
        Ok(())
    };
    let none = api::v(0, 0);
    let table = identity::operations();
    write("identity", docs::page(&table), docs::openapi(&table, none))?;
    let table = image::operations();
    write("image", docs::page(&table), docs::openapi(&table, none))?;
    let table = placement::operations();
    write("placement", docs::page(&table), docs::openapi(&table, api::v(1, 39)))?;
    let table = network::operations();
    write("network", docs::page(&table), docs::openapi(&table, none))?;
    let table = compute::operations();
    write("compute", docs::page(&table), docs::openapi(&table, api::v(2, 104)))
}
