//! What a server learns about itself: the config drive and the metadata service.
//!
//! - [`Documents`] everything a server may read, made from its row
//! - `ec2`         the EC2 tree
//! - `network`     `network_data.json`
//! - [`Service`]   the documents over HTTP, for the metadata proxies of hosts
//!
//! Both ways show one tree:
//!
//! ```text
//! /openstack/<date>/{meta_data.json, user_data, password, vendor_data.json, network_data.json, vendor_data2.json}
//! /openstack/content/NNNN        /<EC2 version>/{meta-data/…, user-data}
//! ```

mod documents;
mod ec2;
mod network;
mod service;

use std::collections::BTreeMap;

use crate::Compute;
use crate::servers::store::Server;

pub use documents::Documents;
pub use service::Service;

/// Versions of the EC2 tree, oldest first.
const EC2_VERSIONS: &[&str] = &[
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
];

/// Versions of the OpenStack tree, oldest first.
const DATES: &[&str] = &[
    "2012-08-10",
    "2013-04-04",
    "2013-10-17",
    "2015-10-15",
    "2016-06-30",
    "2016-10-06",
    "2017-02-22",
    "2018-08-27",
    "2020-10-14",
    "2025-04-04",
];

/// Stands for the newest version of either tree.
const LATEST: &str = "latest";

/// The files of a server's config drive by path. The same row gives the same files.
pub async fn config_drive(_: &Compute, server: &Server) -> Result<BTreeMap<String, Vec<u8>>, db::Error> {
    Ok(Documents::for_drive(server).files())
}
