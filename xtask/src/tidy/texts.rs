//! What no file of the tree may hold, whatever its language: secrets, and paths of one machine.

use super::Breach;
use crate::tree::Source;

/// Beginnings of absolute paths that exist on one machine only.
/// They are written in two parts, so that this file passes its own check.
const MACHINE_PATHS: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/ro", "ot/."), concat!("/tmp/ba", "sh_jobs")];

/// How keys and tokens of well-known kinds begin.
const SECRETS: &[&str] = &[
    concat!("-----BEGIN ", "PRIVATE KEY"),
    concat!("-----BEGIN ", "RSA PRIVATE KEY"),
    concat!("-----BEGIN ", "EC PRIVATE KEY"),
    concat!("-----BEGIN ", "OPENSSH PRIVATE KEY"),
    concat!("gh", "p_"),
    concat!("AK", "IA"),
];

/// What lies in here is installed in a guest, and names paths of that guest.
const GUEST: &str = "images/guest/";

/// Where shell scripts may lie.
const SHELL: &[&str] = &[".ci/", "images/", "tests/upstream/"];

pub fn check(source: &Source) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let shell = source.text.starts_with("#!/bin/sh") || source.text.starts_with("#!/bin/bash");
    if shell && !SHELL.iter().any(|folder| source.path.starts_with(folder)) {
        breaches.push(Breach {
            path: source.path.clone(),
            line: 1,
            what: "a shell script".into(),
            mend: "make it a task of xtask; scripts lie in .ci, images and tests/upstream only",
        });
    }
    for (index, line) in source.text.lines().enumerate() {
        let at = |what: String, mend| Breach { path: source.path.clone(), line: index + 1, what, mend };
        let guest = source.path.starts_with(GUEST);
        if let Some(path) = MACHINE_PATHS.iter().find(|path| !guest && begins_a_path(line, path)) {
            breaches.push(at(
                format!("a path of one machine: {path}…"),
                "name it from the root of the tree, or ask for it",
            ));
        }
        if SECRETS.iter().any(|secret| line.contains(secret)) {
            breaches.push(at(
                "something that looks like a secret".into(),
                "make it when it is needed; never keep it in the tree",
            ));
        }
    }
    breaches
}

/// Does the line name an absolute path that begins so? A longer path or an address that contains it does not count.
fn begins_a_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|it| it.is_alphanumeric() || "_-./}~*$".contains(it))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str, text: &str) -> Vec<Breach> {
        check(&Source { path: path.into(), text: text.into() })
    }

    #[test]
    fn a_path_of_one_machine_is_refused_and_an_address_is_not() {
        let path = MACHINE_PATHS[0];
        assert_eq!(of("a.md", &format!("see {path}main")).len(), 1);
        assert_eq!(of("a.md", &format!("see https://example.org{path}main and ..{path}main")).len(), 0);
    }

    #[test]
    fn a_shell_script_is_refused_outside_its_folders() {
        assert_eq!(of("docs/a.sh", "#!/bin/sh\n").len(), 1);
        assert_eq!(of("images/a.sh", "#!/bin/sh\n").len(), 0);
    }
}
