//! The files that a person sources: `keystonerc_admin`, `keystonerc_demo`, `clouds.yaml`.

use anyhow::Result;

use crate::layout::{Layout, write_private};
use crate::secrets::Secrets;

/// Writes the three files into the data directory, readable by their owner only.
pub fn write(layout: &Layout, secrets: &Secrets, auth_url: &str, region: &str) -> Result<()> {
    let people = [("admin", "admin", &secrets.admin_password), ("demo", "demo", &secrets.demo_password)];
    let mut clouds = String::from("clouds:\n");
    for (user, project, password) in people {
        let rc = keystonerc(user, project, password, auth_url, region);
        write_private(&layout.root.join(format!("keystonerc_{user}")), &rc)?;
        let name = if user == "admin" { "ferrostack" } else { "ferrostack-demo" };
        clouds.push_str(&cloud(name, user, project, password, auth_url, region));
    }
    write_private(&layout.root.join("clouds.yaml"), &clouds)
}

/// Upstream: the variables, and the prompt, of the installer that guides use.
fn keystonerc(user: &str, project: &str, password: &str, auth_url: &str, region: &str) -> String {
    format!(
        "unset OS_SERVICE_TOKEN\n\
         export OS_USERNAME={user}\n\
         export OS_PASSWORD='{password}'\n\
         export OS_REGION_NAME={region}\n\
         export OS_AUTH_URL={auth_url}\n\
         export PS1='[\\u@\\h \\W(keystone_{user})]\\$ '\n\
         \n\
         export OS_PROJECT_NAME={project}\n\
         export OS_USER_DOMAIN_NAME=Default\n\
         export OS_PROJECT_DOMAIN_NAME=Default\n\
         export OS_IDENTITY_API_VERSION=3\n"
    )
}

fn cloud(name: &str, user: &str, project: &str, password: &str, auth_url: &str, region: &str) -> String {
    format!(
        "  {name}:\n    auth:\n      auth_url: {auth_url}\n      username: {user}\n      password: '{password}'\n      \
         project_name: {project}\n      user_domain_name: Default\n      project_domain_name: Default\n    \
         region_name: {region}\n    identity_api_version: 3\n"
    )
}
